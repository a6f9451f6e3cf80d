"""``segbench score``, ``explain`` and ``protocols`` as a user meets them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.evaluation.counts import load_counts
from segbench.formats.label_maps import id2rgb

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[2].parent / "shared"))
TRUTH = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], dtype=np.uint8)
PREDICTION = np.array([[0, 1, 1, 1], [2, 3, 0, 255]], dtype=np.uint8)


@pytest.fixture
def maps(tmp_path):
    for side, labels in (("gt", TRUTH), ("pred", PREDICTION)):
        (tmp_path / side).mkdir()
        Image.fromarray(labels).save(tmp_path / side / "a.png")
    return ["--task", "semantic", "--gt", tmp_path / "gt", "--pred", tmp_path / "pred"]


def test_protocols(run):
    code, out, _ = run("protocols", "--json")
    rows = {row["id"]: row for row in json.loads(out)}
    assert code == 0
    assert {"voc2012", "ade20k-150", "cityscapes-fine", "coco-panoptic"} <= rows.keys()
    assert all(row["rule"] and row["source"] and row["version"] >= 1 for row in rows.values())
    code, out, _ = run("protocols", "--task", "instance")
    assert (code, "coco-instances" in out, "voc2012" in out) == (0, True, False)


def test_one_protocol(run):
    code, out, _ = run("protocols", "ade20k-150")
    assert code == 0
    assert "0 is void, 1 to C are the classes" in out
    code, out, _ = run("protocols", "ade20k-150.v1", "--json")
    assert json.loads(out)["official_score"] is True
    code, _, err = run("protocols", "ade20k")
    assert (code, "Did you mean 'ade20k-150'" in err) == (2, True)


@pytest.mark.parametrize(
    ("protocol", "miou"),
    [
        ("semantic-pooled", (1 / 2 + 2 / 3 + 1 / 2 + 0) / 4),
        ("detectron2", (1 / 2 + 2 / 3 + 1 / 2) / 3),
        ("paddleseg", (1 / 2 + 2 / 3 + 1 / 2 + 0 + 1) / 5),
        ("ade20k-rule", (1 / 2 + 2 / 3 + 1 / 2) / 5),
        ("torchmetrics-per-image", (1 / 3 + 2 / 3 + 1 / 2 + 0) / 4),
    ],
)
def test_score_under_a_rule(run, maps, tmp_path, protocol, miou):
    out_folder = tmp_path / "out"
    options = [*maps, "--num-classes", 5, "--protocol", protocol, "--out", out_folder, "--json"]
    code, out, err = run("score", *options)
    assert code == 0, err
    found = json.loads(out)
    assert found["scores"]["miou"] == pytest.approx(miou, abs=1e-15)
    assert (found["protocol"], found["version"]) == (protocol, 1)
    stored = json.loads((out_folder / "scores.json").read_text())
    assert stored["scores"] == found["scores"]
    assert load_counts(out_folder / "counts.npz")["semantic"].image_ids == ("a",)


def test_an_undefined_mean_is_a_dash(run, maps):
    code, out, _ = run("score", *maps, "--num-classes", 5, "--protocol", "torchvision")
    assert code == 0
    assert "miou            -" in out


def test_class_names_of_the_protocol(run, maps):
    code, out, _ = run("score", *maps, "--protocol", "camvid-12", "--json")
    rows = json.loads(out)["scores"]["per_class"]
    assert (code, len(rows), rows[0]["name"], rows[11]["name"]) == (0, 12, "Sky", "void")


WRONG = [
    ([], 2, "--num-classes is missing"),
    (["--num-classes", "3", "--protocol", "camvid-12"], 2, "'camvid-12' has 11"),
    (["--num-classes", "3", "--protocol", "coco-panoptic"], 2, "scores the panoptic task"),
    (["--num-classes", "3", "--protocol", "mseg"], 2, "Did you mean 'mmseg'"),
    (["--num-classes", "2"], 1, "hold numbers outside the 'train-ids' numbering"),
    (["--num-classes", "3"], 1, "1 predictions hold numbers outside"),
    (["--num-classes", "0"], 2, "--num-classes"),
    (["--protocol", "voc2012"], 1, "first a.png [255]"),
    (["--protocol", "ade20k-150"], 1, "1 truths hold numbers outside the 'reduce-zero'"),
]


@pytest.mark.parametrize(("options", "code", "words"), WRONG, ids=lambda v: str(v)[:50])
@pytest.mark.parametrize("command", ["score", "explain"])
def test_mistakes_end_in_one_clear_message(run, maps, command, options, code, words):
    found, out, err = run(command, *maps, *options)
    assert (found, words in err) == (code, True), err
    assert "Traceback" not in out + err
    assert "miou" not in out


def test_explain(run, maps):
    code, out, _ = run("explain", *maps, "--num-classes", 5)
    assert code == 0
    said = (
        *("torchmetrics-per-image", "37.50", "41.67"),
        "1 classes (3) are predicted but never true",
        "1 classes (4) are neither true nor predicted",
        "1 pixels of void truth",
    )
    for words in said:
        assert words in out, words
    code, out, _ = run("explain", *maps, "--num-classes", 5, "--json")
    rules = {row["rule"]: row["miou"] for row in json.loads(out)["rules"]}
    assert rules["mmseg"] == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 4, abs=1e-15)


def panoptic_files(folder, areas=(4, 4)):
    ids = np.array([[7, 7, 9, 9], [7, 7, 9, 9]])
    categories = [{"id": 7, "name": "road", "isthing": 0}, {"id": 24, "name": "person",
                   "isthing": 1}]  # fmt: skip
    for name in ("gt", "pred"):
        (folder / name).mkdir()
        Image.fromarray(id2rgb(ids)).save(folder / name / "a.png")
        segments = [
            {"id": i, "category_id": c, "iscrowd": 0, "area": area}
            for i, c, area in zip((7, 9), (7, 24), areas, strict=True)
        ]
        annotation = {"image_id": "a", "file_name": "a.png", "segments_info": segments}
        content = {"annotations": [annotation], "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return ["--task", "panoptic", "--gt", folder / "gt.json", "--pred", folder / "pred.json"]


def test_an_interval_is_given_on_demand_or_why_there_is_none(run, tmp_path):
    code, out, _ = run("score", *panoptic_files(tmp_path), "--interval")
    assert code == 0
    assert "no interval of pq: 1 images are too few, 10 are needed" in out
    folders = tmp_path / "truth", tmp_path / "guess"
    rng = np.random.default_rng(0)
    for i in range(30):
        truth = rng.integers(0, 3, (4, 5)).astype(np.uint8)
        wrong = np.where(rng.random(truth.shape) < 0.3, 0, truth).astype(np.uint8)
        for folder, labels in zip(folders, (truth, wrong), strict=True):
            folder.mkdir(exist_ok=True)
            Image.fromarray(labels).save(folder / f"{i}.png")
    command = ["--task", "semantic", "--gt", folders[0], "--pred", folders[1], "--num-classes", 3]
    assert "95 % interval of miou: " in run("score", *command, "--interval")[1]
    found = json.loads(run("score", *command, "--interval", "--json")[1])
    assert found["intervals"]["miou"]["low"] < found["scores"]["miou"]
    assert "intervals" not in json.loads(run("score", *command, "--json")[1])


def test_cityscapes_panoptic_needs_its_categories(run, tmp_path):
    code, _, err = run("score", *panoptic_files(tmp_path), "--protocol", "cityscapes-panoptic")
    assert code == 2
    assert "has the category ids [7, 8, 11" in err


@pytest.mark.shared_data
def test_the_ade20k_sample_has_its_published_score(run):
    sample = SHARED / "data" / "ade20k_sample"
    if not sample.is_dir():
        pytest.skip("the optional folder data/ade20k_sample is not there (SEGBENCH_SHARED)")
    options = ["--gt", sample / "annotations", "--pred", sample / "predictions", "--json"]
    code, out, _ = run("score", "--task", "semantic", "--protocol", "ade20k-150", *options)
    scores = json.loads(out)["scores"]
    assert code == 0
    assert f"{scores['pixel_accuracy']:.4f} {scores['miou']:.4f}" == "1.0000 0.1000"
    assert scores["official_score"] == pytest.approx(0.55)
