"""Malformed JSON and COCO instance files: (name, change, words of the message)."""

from __future__ import annotations

import numpy as np

from tests.evaluation.damage import a_folder, a_loop, edited, gone, with_bytes, with_text, without
from tests.evaluation.score_sets import rle

BIG = "9" * 5000

JSON_FILES = [
    ("truncated JSON", lambda f: lambda s: s.cut(f, 0.5), ["is not valid JSON"]),
    ("empty file", lambda f: with_bytes(f, b""), ["is not valid JSON"]),
    ("no JSON", lambda f: with_text(f, "<html>"), ["is not valid JSON"]),
    (
        "not UTF-8",
        lambda f: with_bytes(f, b'{"images": "\xff\xfe"}'),
        ["is not valid JSON", "utf-8"],
    ),
    ("byte order mark", lambda f: with_bytes(f, b"\xef\xbb\xbf{}"), ["is not valid JSON", "BOM"]),
    ("number of 5000 digits", lambda f: with_text(f, BIG), ["is not valid JSON", "digits"]),
    ("nested 100000 deep", lambda f: with_text(f, "[" * 100_000), ["is not valid JSON", "nested"]),
    ("null", lambda f: with_text(f, "null"), ["expected"]),
    ("absent", gone, ["does not exist"]),
    ("folder in its place", a_folder, ["cannot be read", "directory"]),
    ("link to itself", a_loop, ["cannot be read"]),
]


def _detection(change, index=0):
    return edited("pred.json", lambda c: c[index].update(change))


def _detections(change):
    return edited("pred.json", lambda c: [d.update(change) for d in c] and None)


def _segmentation(size=(6, 8), counts=None):
    return _detection({"segmentation": {"size": list(size), "counts": counts}})


def _true(change, index=0):
    return edited("gt.json", lambda c: c["annotations"][index].update(change))


def _shift_categories(c):
    for d in c:
        d["category_id"] = [3, 8].index(d["category_id"])


INSTANCES = [
    ("contiguous category ids", edited("pred.json", _shift_categories),
     ["5 detections have an unknown category", "[0] category_id 0, [1] category_id 1, [2]",
      "start 3, 8"]),
    ("unknown image", _detection({"image_id": 9}), ["1 detections are on an unknown image",
                                                    "image_id 9"]),
    ("image by file name", _detections({"image_id": "000001.jpg"}),
     ["5 detections are on an unknown image", "'000001.jpg'"]),
    ("list for an image id", _detection({"image_id": [1]}), ["image_id [1]"]),
    ("true for an image id", _detection({"image_id": True}), ["image_id True"]),
    ("fraction for a category", _detection({"category_id": 3.5}), ["category_id 3.5"]),
    ("width and height swapped", _segmentation(size=(8, 6), counts="0`1"),
     ["1 detections have a broken mask", "size [8, 6] on an image of [6, 8]"]),
    ("mask of another size", _detections({"segmentation": rle(np.ones((3, 4)))}),
     ["5 detections have a broken mask", "size [3, 4] on an image of [6, 8]"]),
    ("runs that do not fill the mask", _segmentation(counts=[3, 4]), ["runs over 7 of 48 pixels"]),
    ("runs beyond the mask", _segmentation(counts=[40, 40]), ["runs over 80 of 48 pixels"]),
    ("negative run", _segmentation(counts=[40, -1, 9]), ["run lengths that cannot be decoded"]),
    ("fractional run", _segmentation(counts=[40.5, 7.5]), ["run lengths that cannot be decoded"]),
    ("counts of other letters", _segmentation(counts="é"), ["run lengths that cannot be decoded"]),
    ("counts that are cut", _segmentation(counts="_"), ["run lengths that cannot be decoded"]),
    ("empty counts", _segmentation(counts=""), ["run lengths that cannot be decoded"]),
    ("no counts", _segmentation(), ["run lengths that cannot be decoded"]),
    ("number for a size", _detection({"segmentation": {"size": 48, "counts": [48]}}), ["size 48"]),
    ("polygons as detection", _detection({"segmentation": [[0, 0, 1, 1, 2, 2]]}),
     ["list where an RLE object is expected"]),
    ("score NaN", _detections({"score": float("nan")}),
     ["5 detections have a score that is no number in [0, 1]", "[0] score nan, [1] score nan"]),
    ("score infinite", _detection({"score": float("inf")}), ["score inf"]),
    ("score above 1", _detection({"score": 97.0}), ["score 97.0"]),
    ("score below 0", _detection({"score": -0.1}), ["score -0.1"]),
    ("score as text", _detection({"score": "0.5"}), ["score '0.5'"]),
    ("score true", _detection({"score": True}), ["score True"]),
    ("score null", _detection({"score": None}), ["score None"]),
    ("no score", edited("pred.json", lambda c: c[1].pop("score") and None),
     ["1 detections lack a field", "[1] no score"]),
    ("no mask", edited("pred.json", lambda c: [d.pop("segmentation") for d in c] and None),
     ["5 detections lack a field", "no segmentation"]),
    ("ids repeated", _detections({"id": 4}), ["4 detections repeat the id", "[1] id 4"]),
    ("list for an id", _detections({"id": [4]}), ["5 detections", "id [4]"]),
    ("negative box", _detection({"bbox": [0, 0, -1, 4]}), ["impossible box", "[0, 0, -1, 4]"]),
    ("box of three numbers", _detection({"bbox": [0, 0, 4]}), ["impossible box", "[0, 0, 4]"]),
    ("no box", _detection({"bbox": None}), ["impossible box", "bbox None"]),
    ("box of one detection missing", edited("pred.json", lambda c: c[2].pop("bbox") and None),
     ["1 detections lack a field", "[2] no bbox"]),
    ("no image", edited("pred.json", lambda c: c[2].pop("image_id") and None),
     ["1 detections lack a field", "[2] no image_id"]),
    ("no category", edited("pred.json", lambda c: c[2].pop("category_id") and None),
     ["1 detections lack a field", "[2] no category_id"]),
    ("astronomic box", _detection({"bbox": [0, 0, 1e300, 4]}), ["impossible box", "1e+300"]),
    ("infinite box", _detection({"bbox": [0, 0, float("inf"), 4]}), ["impossible box", "inf"]),
    ("results as an object", edited("pred.json", lambda c: {"annotations": c}),
     ["expected a list of objects for the detections", "found dict"]),
    ("numbers for detections", with_text("pred.json", "[1, 2]"), ["expected a list of objects"]),
    ("truth: annotation id 0", _true({"id": 0}), ["1 annotations have an id", "[0] id 0"]),
    ("truth: negative annotation id", _true({"id": -3}), ["id -3"]),
    ("truth: fractional annotation id", _true({"id": 1.5}), ["id 1.5"]),
    ("truth: id true", _true({"id": True}, 1), ["id True"]),
    ("truth: huge annotation id", _true({"id": 10**30}), ["id 1000"]),
    ("truth: annotation id repeated", _true({"id": 2}),
     ["1 annotations repeat the id", "[1] id 2"]),
    ("truth: list for an id", _true({"id": [2]}), ["id [2]"]),
    ("truth: unknown image", _true({"image_id": 7}), ["unknown image", "image_id 7"]),
    ("truth: unknown category", _true({"category_id": 1}), ["unknown category", "category_id 1"]),
    ("truth: no iscrowd", edited("gt.json", without("annotations", "iscrowd")),
     ["no iscrowd"]),
    ("truth: iscrowd 2", _true({"iscrowd": 2}), ["iscrowd 2"]),
    ("truth: area NaN", _true({"area": float("nan")}), ["impossible area", "nan"]),
    ("truth: negative area", _true({"area": -4}), ["impossible area", "-4"]),
    ("truth: polygon of a point", _true({"segmentation": [[1, 2]]}), ["at least 3 points"]),
    ("truth: mask of another size", _true({"segmentation": rle(np.ones((3, 3)))}),
     ["size [3, 3] on an image of [6, 8]"]),
    ("truth: image id repeated", edited("gt.json", lambda c: c["images"][1].update(id=1)),
     ["1 images repeat the id", "id 1"]),
    ("truth: image without size", edited("gt.json", lambda c: c["images"][1].pop("width") and None),
     ["1 images lack a field", "no width"]),
    ("truth: size as text", edited("gt.json", lambda c: c["images"][1].update(width="8")),
     ["1 images", "width", "'8'"]),
    ("truth: size 0", edited("gt.json", lambda c: c["images"][1].update(height=0)),
     ["1 images", "height", "0"]),
    ("truth: image ids of two types", edited("gt.json", lambda c: c["images"][1].update(id="b")),
     ["image", "'b'"]),
    ("truth: list for an image id", edited("gt.json", lambda c: c["images"][1].update(id=[1])),
     ["images", "[1]"]),
    ("truth: category repeated", edited("gt.json", lambda c: c["categories"][1].update(id=3)),
     ["1 categories repeat the id", "id 3"]),
    ("truth: text for a category id",
     edited("gt.json", lambda c: c["categories"][1].update(id="x")),
     ["categories", "'x'"]),
    ("truth: no categories", edited("gt.json", lambda c: c.pop("categories") and None),
     ["categories"]),
    ("truth: no images", edited("gt.json", lambda c: c.update(images=[], annotations=[])),
     ["no images"]),
    ("truth: annotations as an object", edited("gt.json", lambda c: c.update(annotations={})),
     ["list of objects for the annotations"]),
    ("truth: results in its place", edited("gt.json", lambda c: c["annotations"]),
     ["expected a COCO object, found list"]),
]  # fmt: skip
