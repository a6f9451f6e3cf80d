"""``segbench score`` of Cityscapes folders and with ``--errors``, as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.evaluation.counts import load_counts

STEM = "ulm_000000_000019"


@pytest.fixture
def folders(tmp_path):
    """A car found, one missed, a wrong detection over a road."""
    numbers = np.full((40, 40), 7, dtype=np.uint16)
    numbers[:15, :15], numbers[20:35, :15] = 26000, 26001
    labels = np.where(numbers >= 1000, 26, numbers).astype(np.uint8)
    (tmp_path / "gt/ulm").mkdir(parents=True)
    (tmp_path / "maps").mkdir()
    (tmp_path / "pred").mkdir()
    Image.fromarray(numbers).save(tmp_path / f"gt/ulm/{STEM}_gtFine_instanceIds.png")
    Image.fromarray(labels).save(tmp_path / f"gt/ulm/{STEM}_gtFine_labelIds.png")
    Image.fromarray(labels).save(tmp_path / f"maps/{STEM}.png")
    wrong = np.zeros((40, 40), dtype=np.uint8)
    wrong[:, 25:] = 1
    Image.fromarray((numbers == 26000).astype(np.uint8)).save(tmp_path / "pred/car.png")
    Image.fromarray(wrong).save(tmp_path / "pred/road.png")
    (tmp_path / f"pred/{STEM}.txt").write_text("car.png 26 0.9\nroad.png 26 0.3\n")
    return tmp_path


def cityscapes(folder, *options):
    return ["score", "--task", "instance", "--protocol", "cityscapes-instances",
            "--gt", folder / "gt", "--pred", folder / "pred", *options]  # fmt: skip


def test_instance_ap_of_official_folders(run, folders):
    code, out, err = run(*cityscapes(folders, "--out", folders / "out", "--json"))
    assert code == 0, err
    scores = json.loads(out)["scores"]
    # Steps of recall 1/2: precision 1 up to the hit; the false one adds a point of no width.
    assert (scores["ap"], scores["ap50"]) == (0.5, 0.5)
    assert [row["name"] for row in scores["per_class"]][:3] == ["person", "rider", "car"]
    official = json.loads((folders / "out/resultInstanceLevelSemanticLabeling.json").read_text())
    assert official["averages"]["allAp"] == 0.5
    assert np.isnan(official["averages"]["classes"]["person"]["ap"])
    assert list(load_counts(folders / "out/counts.npz")) == ["segm_overlaps"]
    code, out, _ = run(*cityscapes(folders))
    assert code == 0
    assert "ap50  50.00" in out


def test_pixel_level_results_beside_the_scores(run, folders):
    options = ["--protocol", "cityscapes-fine", "--out", folders / "out"]
    code, out, err = run("score", "--task", "semantic", "--gt", folders / "gt",
                         "--pred", folders / "maps", *options)  # fmt: skip
    assert code == 0, err
    assert "iiou car" in out
    official = json.loads((folders / "out/resultPixelLevelSemanticLabeling.json").read_text())
    assert official["classInstScores"]["car"] == official["averageScoreClasses"] == 1.0
    assert official["confMatrix"][26][26] == 450


def test_a_broken_prediction_ends_in_one_clear_message(run, folders):
    (folders / f"pred/{STEM}.txt").write_text("car.png 99 0.9\n")
    code, out, err = run(*cityscapes(folders))
    assert (code, out) == (1, "")
    assert "1 label ids are not 0 to 33; first ulm_000000_000019.txt:1 99" in err
    assert "Traceback" not in err


def coco_files(folder):
    mask = np.zeros((20, 20), dtype=np.uint8, order="F")
    mask[:10, :10] = 1
    code = coco_mask.encode(mask)
    shape = {"segmentation": {"size": [20, 20], "counts": code["counts"].decode()},
             "bbox": [0, 0, 10, 10], "image_id": 1}  # fmt: skip
    annotation = {**shape, "id": 1, "category_id": 1, "area": 100, "iscrowd": 0}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    images = [{"id": 1, "height": 20, "width": 20, "file_name": "a.jpg"}]
    truth = {"images": images, "categories": categories, "annotations": [annotation]}
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "pred.json").write_text(json.dumps([{**shape, "category_id": 2, "score": 0.7}]))
    return ["score", "--task", "instance", "--gt", folder / "gt.json", "--pred",
            folder / "pred.json"]  # fmt: skip


def test_errors_are_printed_and_stored(run, tmp_path):
    command = coco_files(tmp_path)
    code, out, err = run(*command, "--errors")
    assert code == 0, err
    row = next(line for line in out.splitlines() if "classification" in line)
    assert [cell.strip() for cell in row.split("│")[2:6]] == ["100.00", "1", "100.00", "1"]
    code, out, _ = run(*command, "--errors", "--out", tmp_path / "out", "--json")
    errors = json.loads(out)["errors"]
    assert errors == json.loads((tmp_path / "out/scores.json").read_text())["errors"]
    assert errors["segm"]["counts"] == errors["bbox"]["counts"] == {
        "classification": 1, "localisation": 0, "both": 0, "duplicate": 0, "background": 0,
        "missed": 0,
    }  # fmt: skip
    assert [row["classification"] for row in errors["segm"]["per_class"]] == [0, 1]
    code, out, _ = run(*command, "--json")
    assert "errors" not in json.loads(out)


def test_errors_of_other_files_are_refused(run, folders):
    code, _, err = run(*cityscapes(folders, "--errors"))
    assert (code, "--errors splits the errors of COCO instance files only" in err) == (2, True)
