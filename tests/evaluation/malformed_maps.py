"""Malformed label maps and submissions: (name, set, change, words of the message)."""

from __future__ import annotations

import shutil

import numpy as np

from tests.evaluation.damage import (
    GREY,
    RGB,
    a_file,
    a_folder,
    a_loop,
    as_jpeg,
    edited,
    gone,
    renamed,
    with_bytes,
    with_labels,
    with_number,
    with_text,
    without,
)
from tests.evaluation.score_sets import FRAMES, ScoreSet

LABELS = [
    ("prediction missing", "pooled", gone("pred/c.png"), ["pred", "1 of 4", "missing", "c.png"]),
    ("all predictions missing", "pooled", lambda s: s.each("pred/*", lambda p: p.unlink()),
     ["4 of 4", "a.png, b.png, c.png"]),
    ("prediction under another name", "pooled", renamed("pred/a.png", "pred/a_pred.png"),
     ["1 of 4", "a.png"]),
    ("prediction as another format", "pooled", renamed("pred/a.png", "pred/a.npy"), ["a.png"]),
    ("no truth folder", "pooled", gone("gt"), ["gt", "folder"]),
    ("no prediction folder", "pooled", gone("pred"), ["pred", "folder"]),
    ("file for the prediction folder", "pooled", a_file("pred"), ["pred", "not a folder"]),
    ("truth folder without PNGs", "pooled", lambda s: s.each("gt/*", lambda p: p.unlink()),
     ["gt", "holds no PNG files"]),
    ("folder called .png", "pooled", a_folder("pred/b.png"),
     ["1 predictions", "b.png", "directory"]),
    ("link to itself", "pooled", a_loop("pred/b.png"), ["b.png"]),
    ("zero bytes", "pooled", with_bytes("pred/a.png", b""),
     ["1 predictions cannot be read", "a.png"]),
    ("zero bytes in the truth", "pooled", with_bytes("gt/a.png", b""), ["1 truths cannot be read"]),
    ("truncated", "pooled", lambda s: s.cut("pred/a.png", 0.7), ["1 predictions", "a.png"]),
    ("all truncated", "pooled", lambda s: [s.cut(f"pred/{n}.png", 0.7) for n in "abcd"],
     ["4 predictions cannot be read", "first a.png", "b.png", "c.png"]),
    ("broken checksum", "pooled", lambda s: s.broken_crc("pred/d.png"), ["d.png", "CRC"]),
    ("text called .png", "pooled", with_text("pred/a.png", "<html>"), ["a.png", "cannot be read"]),
    ("JPEG called .png", "pooled", as_jpeg("pred/a.png"), ["a.png", "expected a PNG", "JPEG"]),
    ("header of an impossible size", "pooled", lambda s: s.huge_png("pred/a.png"),
     ["a.png", "60000x60000"]),
    ("colour PNG", "pooled", with_labels("pred/a.png", GREY, "RGB"),
     ["a.png", "mode RGB", "one-channel"]),
    ("colour with alpha", "pooled", with_labels("pred/a.png", GREY, "RGBA"), ["mode RGBA"]),
    ("grey with alpha", "pooled", with_labels("pred/a.png", GREY, "LA"), ["mode LA"]),
    ("a file at --out", "pooled", with_text("out", ""), ["--out: ", "out is a file"]),
    ("one bit", "pooled", with_labels("pred/a.png", GREY > 2), ["mode 1"]),
    ("16 bit", "pooled", with_number("pred/a.png", 1000), ["a.png [1000]", "train-ids"]),
    ("16 bit with 255", "ade20k", lambda s: s.labels("pred/a.png", GREY.astype(np.uint16) * 255),
     ["a.png [255]", "reduce-zero"]),
    ("another size", "pooled", with_labels("pred/a.png", GREY[:3]), ["a.png 3x8 for 6x8"]),
    ("transposed", "pooled", with_labels("pred/a.png", GREY.T.copy()), ["a.png 8x6 for 6x8"]),
    ("another size everywhere", "pooled",
     lambda s: [s.labels(f"pred/{n}.png", GREY[:3]) for n in "abcd"],
     ["4 predictions have another size", "a.png 3x8", "b.png 3x8", "c.png 3x8"]),
    ("class outside the table", "pooled", with_number("pred/a.png", 3), ["a.png [3]", "0 to C-1"]),
    ("truth outside the table", "pooled", with_number("gt/a.png", 200),
     ["1 truths", "a.png [200]"]),
    ("VOC: 255 predicted", "voc", with_number("pred/b.png", 255), ["b.png [255]", "pascal-voc"]),
    ("VOC: 21 predicted", "voc", with_number("pred/b.png", 21), ["b.png [21]", "1 to 20"]),
    ("VOC: 255 predicted on void", "voc",
     lambda s: shutil.copy(s.path("gt/a.png"), s.path("pred/a.png")), ["a.png [255]"]),
    ("ADE20K: 151 predicted", "ade20k", with_number("pred/b.png", 151),
     ["b.png [151]", "reduce-zero"]),
    ("ADE20K: 255 in the truth", "ade20k", with_number("gt/b.png", 255),
     ["1 truths", "b.png [255]"]),
    ("Cityscapes: 34 predicted", "cityscapes",
     with_number(f"pred/{FRAMES[0]}_leftImg8bit.png", 34),
     ["[34]", "label ids 0 to 33", FRAMES[0]]),
    ("Cityscapes: 255 predicted", "cityscapes",
     with_number(f"pred/{FRAMES[0]}_leftImg8bit.png", 255), ["[255]", "not train ids"]),
    ("Cityscapes: two predictions of a frame", "cityscapes",
     lambda s: s.labels(f"pred/{FRAMES[1]}_again.png", GREY),
     ["1 truths have more than one prediction", FRAMES[1]]),
    ("Cityscapes: prediction missing", "cityscapes",
     gone(f"pred/{FRAMES[2]}_leftImg8bit.png"), ["1 of 4", FRAMES[2]]),
    ("Cityscapes: no labelIds files", "cityscapes",
     lambda s: s.each("gt/ulm/*labelIds.png", lambda p: p.unlink()), ["no *_labelIds.png files"]),
    ("Cityscapes: instance ids of another size", "cityscapes",
     lambda s: s.labels(f"gt/ulm/{FRAMES[0]}_gtFine_instanceIds.png", GREY[:2]),
     ["instanceIds.png", "expected the size 6x8", "found 2x8"]),
]  # fmt: skip


def _yaml(old, new):
    def change(s: ScoreSet) -> None:
        path = s.path("mine.yaml")
        path.write_text(path.read_text().replace(old, new))

    return change


SUBMISSIONS = [
    ("prediction missing", gone("mine/semantic/b.png"),
     ["no prediction for 1 of 4 images, first b"]),
    ("no folder", gone("mine"), ["mine", "does not exist"]),
    ("file for a folder", a_file("mine"), ["mine"]),
    ("another size", with_labels("mine/semantic/c.png", GREY[:2]), ["c.png 2x8 for 6x8"]),
    ("colour PNG", with_labels("mine/semantic/c.png", RGB), ["c.png", "mode RGB"]),
    ("truncated PNG", lambda s: s.cut("mine/semantic/a.png", 0.6), ["a.png", "cannot be read"]),
    ("number without a class", with_number("mine/semantic/d.png", 7),
     ["1 predictions hold", "d.png [7]"]),
    ("another data set", _yaml("digit_scenes", "camvid"), ["camvid", "found 'digit_scenes'"]),
    ("unknown data set", _yaml("digit_scenes", "digit_scene"), ["Did you mean 'digit_scenes'"]),
    ("unknown key", _yaml("folder:", "folders:"), ["mine.yaml", "folder"]),
    ("unknown split", _yaml("tasks:", "split: vall\ntasks:"),
     ["mine.yaml: split", "found 'vall'. Did you mean 'val'?"]),
    ("task without a truth", _yaml("[semantic]", "[panoptic]"), ["no panoptic truth"]),
    ("description of another schema", edited("data/dataset.json", lambda c: c.update(schema=2)),
     ["dataset.json: expected schema 1, found 2"]),
    ("description as a list", with_text("data/dataset.json", "[]"), ["expected an object"]),
    ("description without classes",
     edited("data/dataset.json", lambda c: c.pop("categories") and None),
     ["dataset.json: missing or of a wrong kind: categories"]),
    ("class without a color",
     edited("data/dataset.json", without("categories", "color")), ["categories [0] lack"]),
    ("image list of numbers", with_text("data/val.jsonl", "1\n2\n"), ["val.jsonl: a line is no"]),
    ("image list that is cut", lambda s: s.cut("data/val.jsonl", 0.8),
     ["val.jsonl:4 is not valid JSON"]),
    ("no YAML", with_text("mine.yaml", "dataset: [\n"), ["mine.yaml", "not valid YAML"]),
    ("absent", gone("mine.yaml"), ["mine.yaml does not exist"]),
]  # fmt: skip
