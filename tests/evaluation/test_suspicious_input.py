"""Input that can be scored but looks wrong: said once by the real command, never on good input.

``test_malformed_input.test_the_sets_are_right_as_they_are`` checks that none of these is said
of the sets as they are.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from segbench.evaluation.protocols.cityscapes_labels import LABEL_IDS
from tests.evaluation import score_sets
from tests.evaluation.score_sets import FRAMES, NAMES
from tests.evaluation.test_malformed_input import in_process, run


def moved(by, base=0):
    """Shift every class number of the predictions; void stays."""

    def change(s):
        for name in NAMES:
            labels = np.array(Image.open(s.path(f"pred/{name}.png"))).astype(np.int64)
            labels = np.where(labels == 255, 255, np.maximum(labels + by, base))
            s.labels(f"pred/{name}.png", labels.astype(np.uint8))

    return change


def as_train_ids(s):
    table = np.zeros(256, dtype=np.uint8)
    table[list(LABEL_IDS)] = np.arange(19)
    for frame in FRAMES:
        path = f"pred/{frame}_leftImg8bit.png"
        s.labels(path, table[np.array(Image.open(s.path(path)))])


def truths(change, entries="annotations"):
    return lambda s: s.edit("gt.json", lambda c: change(c[entries]))


def wrong_area(annotations):
    annotations[1]["area"] = 400


def category_zero(s):
    """Number the categories from 0 in both files: right as such, but no detector's numbering."""
    number = {3: 0, 8: 1}

    def change(content):
        for each in content if isinstance(content, list) else content["annotations"]:
            each["category_id"] = number[each["category_id"]]
        if isinstance(content, dict):
            for each in content["categories"]:
                each["id"] = number[each["id"]]

    for name in ("gt.json", "pred.json"):
        s.edit(name, change)


def corners(entries):
    for entry in entries:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]


def wrong_areas(annotations):
    for annotation in annotations:
        annotation["segments_info"][1]["area"] = 900


def orphan(annotations):
    annotations[2]["segments_info"].pop()


CASES = {
    "label shift up": ("wide", moved(1), ["one too high (a zero label not reduced)"]),
    "label shift down": ("wide", moved(-1), ["one too low", "reduced twice"]),
    "zero label reduced in the submission": ("ade20k", moved(-1), ["one too low", "100.0"]),
    "zero label of ADE20K counted up": ("ade20k_low", moved(1), ["one too high"]),
    "zero label reduced twice": ("ade20k_low", moved(-2), ["two too low", "reduced twice"]),
    "train ids for label ids": (
        "cityscapes", as_train_ids, ["are train ids in place of 'cityscapes-label-ids'"]),
    "areas of panoptic truth": (
        "panoptic", truths(wrong_areas),
        ["4 true segments have another area", "a.png segment 300: 900, PNG 9, b.png"]),
    "true ids without a segment": (
        "panoptic", truths(orphan), ["1 ids of the true PNGs have no segment", "c.png 300"]),
    "area of an instance": (
        "instances", truths(wrong_area), ["gt.json: 1 annotations have another area than their "
                                          "mask; first id 2: 400, mask 6"]),
    "detections twice": (
        "instances", lambda s: s.edit("pred.json", lambda c: c + c[:2]),
        ["pred.json: 2 detections repeat another one", "[5] on image 1"]),
    "boxes as corners": (
        "instances", lambda s: s.edit("pred.json", corners),
        ["pred.json: 2 boxes reach beyond their image", "not corners", "on 8x6"]),
    "true boxes as corners": (
        "instances", truths(corners), ["gt.json: 2 boxes reach beyond their image"]),
    "category 0": ("instances", category_zero, ["1 categories have the id 0", "'cat'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_looks_wrong_is_said_once_and_stored(name, tmp_path, monkeypatch, capfd):
    kind, change, words = CASES[name]
    made = getattr(score_sets, kind)(tmp_path)
    change(made)
    code, out, err = run(in_process, made, monkeypatch, capfd)
    assert code == 0, err
    assert err.count("warning: ") == 1, err
    said = err[err.index("warning: ") :]
    assert not [word for word in words if word not in said], said
    stored = json.loads((made.out / "scores.json").read_text())["warnings"]
    assert stored == json.loads(out)["warnings"] == [said.removeprefix("warning: ").rstrip()]


def test_predictions_of_void_alone_are_not_taken_for_shifted_ones(tmp_path, monkeypatch, capfd):
    made = score_sets.label_maps(tmp_path, (0, 0, 0, 1, 255), "--num-classes", "3")
    for name in NAMES:
        made.labels(f"pred/{name}.png", np.full((6, 8), 255, dtype=np.uint8))
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert (code, "warning" in err) == (0, False)


@pytest.mark.parametrize("kind", ["wide", "ade20k_low"])
def test_nothing_is_said_of_good_predictions(kind, tmp_path, monkeypatch, capfd):
    code, _, err = run(in_process, getattr(score_sets, kind)(tmp_path), monkeypatch, capfd)
    assert (code, "warning" in err) == (0, False)


def test_a_submission_with_shifted_labels_is_doubted(tmp_path, monkeypatch, capfd):
    made = score_sets.submission(tmp_path)
    made.each("mine/semantic/*.png", lambda p: Image.fromarray(shifted(p)).save(p))
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert code == 0, err
    (record,) = json.loads((made.out / "records.json").read_text())["records"]
    assert "one too low" in record["warnings"][0]
    assert f"warning: {record['warnings'][0]}" in err
    assert record["scores"]["pixel_accuracy"] == 0.0


def shifted(path):
    """Every class 1 as 0 and every 0 as void: one too low."""
    labels = np.array(Image.open(path))
    return np.where(labels == 1, 0, 255).astype(np.uint8)
