"""Malformed COCO panoptic files: (name, change, words of the message)."""

from __future__ import annotations

import numpy as np

from tests.evaluation.damage import (
    GREY,
    RGB,
    as_jpeg,
    edited,
    gone,
    with_bytes,
    with_labels,
    without,
)


def _info(change, side="pred", index=0):
    return edited(
        f"{side}.json", lambda c: c["annotations"][0]["segments_info"][index].update(change)
    )


def _annotation(change, side="pred", index=0):
    return edited(f"{side}.json", lambda c: c["annotations"][index].update(change))


def _drop(key, side="pred"):
    def change(c):
        del c["annotations"][0]["segments_info"][0][key]

    return edited(f"{side}.json", change)


def _all_infos(change, side="pred"):
    return edited(
        f"{side}.json",
        lambda c: [i.update(change) for a in c["annotations"] for i in a["segments_info"]] and None,
    )


PANOPTIC = [
    ("segment in the PNG, not in the JSON",
     edited("pred.json", lambda c: c["annotations"][1]["segments_info"].pop() and None),
     ["b.png", "1 segment ids are in the PNG but not in the JSON", "[300]"]),
    ("segment in the JSON, not in the PNG",
     edited("pred.json", lambda c: c["annotations"][0]["segments_info"].append(
         {"id": 12, "category_id": 7})),
     ["a.png", "1 segment ids are in the JSON but not in the PNG", "[12]"]),
    ("unknown category", _info({"category_id": 66}),
     ["1 segments have an unknown category", "image 1 segment 70001 category_id 66",
                                           "start 7, 24"]),
    ("contiguous categories", _all_infos({"category_id": 0}),
     ["8 segments have an unknown category", "image 1 segment 70001 category_id 0, image 1 segment "
      "300", "image 2"]),
    ("list for a category", _info({"category_id": [7]}), ["category_id [7]"]),
    ("void as a segment",
     edited("pred.json", lambda c: c["annotations"][0]["segments_info"].append(
         {"id": 0, "category_id": 7})),
     ["1 segments have an id", "(0 is void)", "image 1 segment 0"]),
    ("negative id", _info({"id": -300}), ["image 1 segment -300"]),
    ("fractional id", _info({"id": 300.5}), ["image 1 segment 300.5"]),
    ("text for an id", _info({"id": "300"}), ["image 1 segment '300'"]),
    ("id beyond 24 bits", _info({"id": 10**30}), ["image 1 segment 1000000", "1 to 16777215"]),
    ("id repeated", _info({"id": 300}), ["1 segments repeat the id", "image 1 segment 300"]),
    ("true for an id", _info({"id": True}), ["image 1 segment True"]),
    ("no id", _drop("id"), ["no 'id'"]),
    ("no category", _drop("category_id"), ["no 'category_id'"]),
    ("segments as an object", _annotation({"segments_info": {}}),
     ["segments_info", "list of objects", "found dict"]),
    ("numbers for segments", _annotation({"segments_info": [300]}),
     ["segments_info", "list of objects"]),
    ("prediction missing", edited("pred.json", lambda c: c["annotations"].pop() and None),
     ["no prediction for 1 of 4 images", "[4]"]),
    ("image predicted twice",
     edited("pred.json", lambda c: c["annotations"].append(c["annotations"][2])),
     ["1 entries repeat the image", "[3]"]),
    ("ids of images as text", edited("pred.json", lambda c: [
        a.update(image_id=str(a["image_id"])) for a in c["annotations"]] and None),
     ["no prediction for 4 of 4 images", "[1, 2, 3]", "'1'"]),
    ("list for an image id", _annotation({"image_id": [1]}), ["image_id", "[1]"]),
    ("no file name", edited("pred.json", lambda c: c["annotations"][0].pop("file_name") and None),
     ["1 annotations lack", "file_name"]),
    ("number for a file name", _annotation({"file_name": 3}), ["file_name", "3"]),
    ("file name out of the folder", _annotation({"file_name": "../gt/a.png"}),
     ["file_name", "../gt/a.png"]),
    ("file name too long", _annotation({"file_name": "a" * 300 + ".png"}), ["file_name 'aaaa"]),
    ("listed without its file", gone("pred/c.png"), ["pred: 1 of 4 listed PNGs", "first c.png"]),
    ("listed without their files", lambda s: s.each("pred/*", lambda p: p.unlink()),
     ["4 of 4 listed PNGs do not exist", "first a.png, b.png, c.png"]),
    ("no folder of PNGs", gone("pred"), ["pred is not a folder", "--pred-folder"]),
    ("grey PNG", with_labels("pred/a.png", GREY), ["a.png", "mode L", "8-bit RGB"]),
    ("palette PNG", with_labels("pred/a.png", RGB, "P"), ["a.png", "mode P", "8-bit RGB"]),
    ("PNG with alpha", with_labels("pred/a.png", RGB, "RGBA"), ["a.png", "mode RGBA"]),
    ("16-bit PNG", with_labels("pred/a.png", GREY.astype(np.uint16) * 300), ["a.png", "mode I;16"]),
    ("JPEG called .png", as_jpeg("pred/a.png"), ["a.png", "expected a PNG", "JPEG"]),
    ("another size", with_labels("pred/a.png", RGB[:3]),
     ["pred/a.png", "the size 6x8", "found 3x8"]),
    ("transposed", with_labels("pred/a.png", RGB.transpose(1, 0, 2).copy()),
     ["pred/a.png", "the size 6x8", "found 8x6"]),
    ("zero bytes", with_bytes("pred/b.png", b""), ["b.png", "cannot be read as an image"]),
    ("truncated PNG", lambda s: s.cut("pred/b.png", 0.7), ["b.png", "cannot be read as an image"]),
    ("broken checksum", lambda s: s.broken_crc("pred/b.png"), ["b.png", "CRC"]),
    ("annotations missing", edited("pred.json", lambda c: c.pop("annotations") and None),
     ["a list 'annotations'"]),
    ("annotations alone", edited("pred.json", lambda c: c["annotations"]),
     ["a list 'annotations'", "found list"]),
    ("numbers for annotations", edited("pred.json", lambda c: c.update(annotations=[1, 2])),
     ["annotations", "objects"]),
    ("truth: no iscrowd", _drop("iscrowd", "gt"), ["gt.json", "has no 'iscrowd'"]),
    ("truth: iscrowd 2", _info({"iscrowd": 2}, "gt"), ["gt.json", "has the iscrowd 2"]),
    ("truth: unknown category", _info({"category_id": 8}, "gt"),
     ["gt.json", "1 true segments have an unknown category", "category_id 8"]),
    ("truth: segment id 0", _info({"id": 0}, "gt"),
     ["gt.json", "1 true segments", "image 1 segment 0"]),
    ("truth: area as text", _info({"area": "31"}, "gt"),
     ["gt.json", "impossible area", "has the area '31'"]),
    ("truth: image twice",
     edited("gt.json", lambda c: c["annotations"].append(c["annotations"][0])),
     ["gt.json", "1 entries repeat the image", "[1]"]),
    ("truth: no images", edited("gt.json", lambda c: c.update(annotations=[])),
     ["gt.json", "no images to score"]),
    ("truth: no categories", edited("gt.json", lambda c: c.pop("categories") and None),
     ["gt.json", "categories"]),
    ("truth: category twice", edited("gt.json", lambda c: c["categories"][1].update(id=7)),
     ["repeat the category", "[7]"]),
    ("truth: category without isthing",
     edited("gt.json", without("categories", "isthing")), ["categories", "isthing"]),
    ("truth: isthing as text",
     edited("gt.json", lambda c: c["categories"][0].update(isthing="yes")),
     ["gt.json: 1 categories have an isthing that is not 0 or 1: 'yes'"]),
    ("truth: text for a category id",
     edited("gt.json", lambda c: c["categories"][0].update(id="7")), ["categories", "'7'"]),
    ("truth: PNG missing", gone("gt/d.png"), ["gt: 1 of 4 listed PNGs", "first d.png"]),
    ("truth: grey PNG", with_labels("gt/a.png", GREY), ["gt/a.png", "mode L"]),
]  # fmt: skip
