"""Input of which something can never count: said by ``score`` and ``evaluate``, scored as ever."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segbench.panopticapi.evaluation import pq_compute
from tests.evaluation import score_sets
from tests.evaluation.score_sets import NAMES, SHAPE, prepared, rgb, rle
from tests.evaluation.test_malformed_input import in_process, run


def labels(side, change, names=NAMES):
    """Change the label maps of one side."""

    def apply(s):
        for name in names:
            path = f"{side}/{name}.png"
            s.labels(path, change(np.array(Image.open(s.path(path)))).astype(np.uint8))

    return apply


def both(*changes):
    def apply(s):
        for change in changes:
            change(s)

    return apply


def as_255(x):
    return np.where(x == 1, 255, x)


def nothing(x):
    return np.zeros_like(x)


def with_first(image):
    """Class 1 and void: masks of 1 and 255 in place of 0 and 1."""
    return np.where(image == 1, 255, 1)


TRUTH = "only 1 of 2 classes is in the truth (0), and 40 % of it is 255 = void: are these masks"
BINARY = {
    "truth of 0 and 255, prediction of nothing": (
        both(labels("gt", as_255), labels("pred", nothing)), [TRUTH]),
    "both of 0 and 255": (both(labels("gt", as_255), labels("pred", as_255)), [TRUTH]),
    "truth of 0 and 255, prediction of 0 and 1": (labels("gt", as_255), [TRUTH]),
    "truth of 1 and 255": (
        labels("gt", with_first), ["in the truth (1)", "are these masks of 1 and 255?"]),
    "truth of nothing": (
        labels("gt", nothing), ["in the truth (0): predicting it everywhere is scored as perfect"]),
    "truth of void": (
        labels("gt", lambda x: x * 0 + 255), ["no pixel of the truth has a class"]),
    "one truth of 0 and 255": (
        labels("gt", as_255, NAMES[2:3]), ["1 of 4 truths hold class 0 and void but never class 1",
                                           "3 hold class 1 but no void", "first c"]),
    "predictions of 0 and 255": (
        labels("pred", as_255), ["the predictions hold 0 and 255 alone", "40 % of the labelled"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_masks_of_0_and_255_are_doubted(name, tmp_path, monkeypatch, capfd):
    change, words = BINARY[name]
    made = score_sets.binary(tmp_path)
    change(made)
    code, out, err = run(in_process, made, monkeypatch, capfd)
    assert (code, err.count("warning: ")) == (0, 1), err
    assert not [word for word in words if word not in err], err
    explain = ["explain", *made.commands[0][3:-3]]
    _, out, err = in_process([*explain, "--json"], monkeypatch, capfd)
    assert words[0] in json.loads(out)["warnings"][0]
    assert words[0] in in_process(explain, monkeypatch, capfd)[2]


@pytest.mark.parametrize(
    "change", [labels("gt", lambda x: np.where(np.arange(8) > 5, 255, x)), labels("pred", nothing)]
)
def test_void_beside_both_classes_and_poor_predictions_are_right(
    change, tmp_path, monkeypatch, capfd
):
    made = score_sets.binary(tmp_path)
    change(made)
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert (code, "warning" in err) == (0, False)


def repeated(field, number):
    """Repeat an entry of a file with other ids, its copies in other places for detections."""

    def apply(s):
        def copies(content):
            entries = content["annotations"] if field == "gt.json" else content
            first = dict(entries[0])
            for i in range(number):
                extra = {"id": 100 + i} if field == "gt.json" else {"score": i / 1000}
                entries.append({**first, **extra})

        s.edit(field, copies)

    return apply


def truth(**changes):
    def apply(s):
        s.edit("gt.json", lambda c: c["annotations"][1].update(changes))

    return apply


def detection(**changes):
    return lambda s: s.edit("pred.json", lambda c: c[1].update(changes))


EMPTY = rle(np.zeros(SHAPE))
OUTSIDE = [[20, 2, 24, 2, 24, 5, 20, 5]]
NO_PIXEL = ["gt.json: 1 annotations have no pixel inside their image and can only be missed",
            "first id 2"]  # fmt: skip
OBJECTS = {
    "detections": (
        repeated("pred.json", 110),
        ["pred.json: 1 images have more than 100 detections of a category",
         "12 detections count nowhere; first image 1 category 3: 112"]),
    "objects": (
        repeated("gt.json", 118),
        ["gt.json: 1 images have more than 100 objects of a category, of which 100 can be found",
         "AR 100 cannot pass 91.7; first image 1 category 3: 120"]),
    "polygon outside": (truth(segmentation=OUTSIDE, area=12), NO_PIXEL),
    "polygon of a line": (truth(segmentation=[[1, 1, 3, 1, 1, 1]], area=0), NO_PIXEL),
    "empty RLE": (truth(segmentation=EMPTY, area=0), NO_PIXEL),
    "empty list of runs": (
        truth(segmentation={"size": [6, 8], "counts": [48]}, area=0), NO_PIXEL),
    "empty detection": (
        detection(segmentation=EMPTY),
        ["pred.json: 1 detections have no pixel inside their image and can only be false",
         "first [1]"]),
    "box without area": (
        truth(bbox=[3, 3, 0, 0]), ["1 annotations have a box without area inside"]),
    "box outside": (
        detection(bbox=[9, 1, 2, 2]), ["1 detections have a box without area inside"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_that_never_count_are_said(name, tmp_path, monkeypatch, capfd):
    change, words = OBJECTS[name]
    made = score_sets.instances(tmp_path)
    change(made)
    code, out, err = run(in_process, made, monkeypatch, capfd)
    assert (code, err.count("warning: ")) == (0, 1), err
    assert not [word for word in words if word not in err], err
    found = json.loads(out)["scores"]
    assert [found[key] for key in ("ap", "ap50", "ar_100")] == official(made)
    _, _, err = run(in_process, prepared(made, "instance"), monkeypatch, capfd)
    (record,) = json.loads((tmp_path / "out2/records.json").read_text())["records"]
    assert words[-1] in err
    assert len(record["warnings"]) == 1
    assert record["scores"]["ap"] == found["ap"]


def official(made):
    """Return AP, AP50 and AR 100 of pycocotools."""
    known = COCO(str(made.path("gt.json")))
    rated = COCOeval(known, known.loadRes(str(made.path("pred.json"))), "segm")
    rated.evaluate()
    rated.accumulate()
    rated.summarize()
    return [rated.stats[i] for i in (0, 1, 8)]


def test_a_crowd_without_a_pixel_excuses_nothing_and_is_not_said(tmp_path, monkeypatch, capfd):
    made = score_sets.instances(tmp_path)
    truth(segmentation=EMPTY, area=0, iscrowd=1)(made)
    assert "warning" not in run(in_process, made, monkeypatch, capfd)[2]


def road_in_pieces(side, names):
    """Give the right half of the road of some images an id of its own."""

    def apply(s):
        for name in names:
            path = s.path(f"{side}/{name}.png")
            ids = np.array(Image.open(path)).astype(np.int64) @ [1, 256, 65536]
            ids[:, 4:][ids[:, 4:] == 70001] = 70002
            Image.fromarray(rgb(ids.astype(np.int32))).save(path)
        s.edit(f"{side}.json", divide(names))

    return apply


def divide(names):
    def change(content):
        for entry in content["annotations"]:
            if entry["file_name"][0] in names:
                road = next(s for s in entry["segments_info"] if s["id"] == 70001)
                area = 20 if "area" in road else 0
                entry["segments_info"].append({**road, "id": 70002, "area": area})
                road["area"] = 11

    return change


PIECES = {
    "predicted": (
        road_in_pieces("pred", "ac"),
        ["pred.json: 2 images have a stuff category in several predicted segments",
         "first image 1 (road 2), image 3 (road 2)"]),
    "true": (
        road_in_pieces("gt", "b"),
        ["gt.json: 1 images have a stuff category in more than one true segment", "image 2"]),
    "both": (
        both(road_in_pieces("gt", "b"), road_in_pieces("pred", "b")),
        ["gt.json: 1 images have a stuff category in more than one true segment", "image 2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_stuff_in_pieces_is_said(name, tmp_path, monkeypatch, capfd):
    change, words = PIECES[name]
    made = score_sets.panoptic(tmp_path)
    change(made)
    code, out, err = run(in_process, made, monkeypatch, capfd)
    assert (code, err.count("warning: ")) == (0, 1), err
    assert not [word for word in words if word not in err], err
    found = json.loads(out)["scores"]
    paths = [str(made.path(name)) for name in ("gt.json", "pred.json", "gt", "pred")]
    assert pq_compute(*paths)["All"]["pq"] == found["pq"]
    _, _, err = run(in_process, prepared(made, "panoptic"), monkeypatch, capfd)
    (record,) = json.loads((tmp_path / "out2/records.json").read_text())["records"]
    assert words[-1] in err
    assert len(record["warnings"]) == 1
    assert record["scores"]["pq"] == found["pq"]


HIDDEN = ("gt/._a.png", "gt/.DS_Store", "pred/._a.png", "pred/.b.png")


@pytest.mark.parametrize("kind", ["pooled", "cityscapes", "panoptic"])
def test_hidden_files_of_both_sides_are_passed_over(kind, tmp_path, monkeypatch, capfd):
    made = getattr(score_sets, kind)(tmp_path)
    names = list(HIDDEN)
    if kind == "cityscapes":
        frame = score_sets.FRAMES[0]
        names += [f"gt/ulm/._{frame}_gtFine_labelIds.png", f"pred/._{frame}_leftImg8bit.png",
                  f"pred/.ipynb_checkpoints/{frame}_leftImg8bit-checkpoint.png",
                  f"gt/.Trashes/{frame}_gtFine_labelIds.png"]  # fmt: skip
    for name in names:
        made.path(name).parent.mkdir(exist_ok=True)
        made.path(name).write_bytes(b"\0\5\26\7")
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert (code, "warning" in err) == (0, False), err


def test_a_hidden_file_in_a_submission_is_passed_over(tmp_path, monkeypatch, capfd):
    made = score_sets.submission(tmp_path)
    made.path("mine/semantic/._a.png").write_bytes(b"\0\5\26\7")
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert code == 0, err
    assert not (tmp_path / "made/semantic/._a.png").exists()


def test_a_fault_of_the_truth_names_the_folder_of_the_truth(tmp_path, monkeypatch, capfd):
    made = score_sets.binary(tmp_path)
    made.labels("gt/b.png", np.full(SHAPE, 7, dtype=np.uint8))
    made.labels("pred/c.png", np.full(SHAPE, 9, dtype=np.uint8))
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert code == 1
    assert f"{made.path('gt')}: 1 truths hold numbers outside" in err
    assert f"{made.path('pred')}: 1 predictions hold numbers outside" in err
