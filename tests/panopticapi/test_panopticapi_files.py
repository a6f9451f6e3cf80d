"""Combination and converters: round trips, rules written out again, reference forms."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.errors import ConfigError, DataError
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from segbench.panopticapi import combine_semantic_and_instance_predictions as combine
from segbench.panopticapi.cityscapes_gt_converter import cityscapes_panoptic_converter
from segbench.panopticapi.converters import (
    detection2panoptic_coco_format,
    panoptic2detection_coco_format,
    panoptic2semantic_segmentation,
    two_channels2panoptic_coco_format,
)
from segbench.panopticapi.evaluation import pq_compute
from tests.panopticapi.panoptic_cases import BY_ID, CATEGORIES, blocks, pair

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[2].parent / "shared"))
SAMPLE = SHARED / "data" / "panopticapi_sample"


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def read(path):
    return json.loads(Path(path).read_text())


@pytest.fixture
def categories(tmp_path):
    path = tmp_path / "categories.json"
    path.write_text(json.dumps(CATEGORIES))
    return path


@pytest.fixture
def truth(tmp_path):
    """A COCO panoptic truth in which every id has a segment."""
    path, _ = pair(tmp_path)
    content = read(path)
    for number, annotation in enumerate(content["annotations"]):
        if (blocks(number) == 70_000).any():
            orphan = {"id": 70_000, "category_id": 5, "iscrowd": 0, "area": 1, "bbox": [0] * 4}
            annotation["segments_info"].append(orphan)
    path.write_text(json.dumps(content))
    return path


def test_panoptic_to_detection_and_back(truth, categories, tmp_path):
    detection, again = tmp_path / "det.json", tmp_path / "again.json"
    panoptic2detection_coco_format.convert_panoptic_to_detection_coco_format(
        truth, None, detection, None, False
    )
    found = read(detection)
    assert [a["id"] for a in found["annotations"]] == list(range(1, 19))
    assert set(found["categories"][0]) == {"id", "name", "supercategory"}
    detection2panoptic_coco_format.convert_detection_to_panoptic_coco_format(
        detection, None, again, categories
    )
    for number in range(3):
        old = blocks(number)
        new = read_panoptic_ids(tmp_path / "again" / f"{number}.png")
        pairs = set(zip(old.ravel().tolist(), new.ravel().tolist(), strict=True))
        # Stuff of one category shares an id; things are one to one.
        assert len({o for o, _ in pairs}) == len(pairs)
    segments = read(again)["annotations"][0]["segments_info"]
    assert {s["category_id"] for s in segments} == set(BY_ID)
    assert all("segmentation" not in s and "image_id" not in s for s in segments)


def test_things_only_and_numbers_from_zero(truth, tmp_path):
    detection = tmp_path / "det.json"
    panoptic2detection_coco_format.convert_panoptic_to_detection_coco_format(
        truth, None, detection, None, True, strict_compat=True
    )
    found = read(detection)
    assert [a["id"] for a in found["annotations"]] == list(range(12))
    assert {a["category_id"] for a in found["annotations"]} == {1, 5}
    assert [c["id"] for c in found["categories"]] == [1, 5]


def test_a_detection_json_without_kinds_needs_a_list_of_categories(truth, tmp_path):
    detection = tmp_path / "det.json"
    panoptic2detection_coco_format.convert_panoptic_to_detection_coco_format(
        truth, None, detection, None, False
    )
    with pytest.raises(ConfigError, match="isthing"):
        detection2panoptic_coco_format.convert_detection_to_panoptic_coco_format(
            detection, None, tmp_path / "pan.json", None
        )


def test_overlapping_detections_are_refused(categories, tmp_path):
    mask = np.ones((3, 4), dtype=bool)
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": rle(mask), "area": 12,
         "bbox": [0, 0, 4, 3], "iscrowd": 0}
        for i in (1, 2)
    ]  # fmt: skip
    images = [{"id": 1, "width": 4, "height": 3, "file_name": "a.jpg"}]
    detection = tmp_path / "det.json"
    detection.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": []})
    )
    with pytest.raises(DataError, match="image 1: segments overlap"):
        detection2panoptic_coco_format.convert_detection_to_panoptic_coco_format(
            detection, None, tmp_path / "pan.json", categories
        )


@pytest.mark.parametrize("things_other", [False, True])
def test_panoptic_to_semantic_agrees_in_both_forms(truth, tmp_path, things_other):
    output, folder = tmp_path / "sem.json", tmp_path / "sem"
    extract = panoptic2semantic_segmentation.extract_semantic
    extract(truth, None, output, None, None, things_other)
    extract(truth, None, None, folder, None, things_other)
    found = read(output)
    assert [a["id"] for a in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    for annotation in found["annotations"]:
        labels = read_label_map(folder / f"{annotation['image_id']}.png")
        mask = labels == annotation["category_id"]
        assert (coco_mask.decode(annotation["segmentation"]) == mask).all()
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box
    ids = {a["category_id"] for a in found["annotations"]}
    assert ids == ({90, 183, 200} if things_other else {1, 5, 90, 200})
    assert ids <= {c["id"] for c in found["categories"]}


@pytest.mark.parametrize("outputs", [(None, None), ("a.json", "folder")])
def test_semantic_output_is_one_of_two(truth, outputs):
    with pytest.raises(ConfigError, match="either --output_json_file or --semantic_seg_folder"):
        panoptic2semantic_segmentation.extract_semantic(truth, None, *outputs, None, False)


def test_a_missing_png_is_a_key_error(truth, tmp_path):
    (tmp_path / "gt" / "1.png").unlink()
    with pytest.raises(KeyError, match="no prediction png file for id: 1"):
        panoptic2semantic_segmentation.extract_semantic(
            truth, None, tmp_path / "x.json", None, None, False
        )


def two_channels(folder, channels):
    folder.mkdir(exist_ok=True)
    Image.fromarray(channels.astype(np.uint8)).save(folder / "a.png")
    images = [{"id": 4, "width": 4, "height": 2, "file_name": "a.jpg"}]
    path = folder / "images.json"
    path.write_text(json.dumps({"images": images, "categories": CATEGORIES}))
    return path


CHANNELS = np.zeros((2, 4, 3))
CHANNELS[:, :, 0] = [[1, 1, 1, 200], [0, 5, 5, 200]]
CHANNELS[:, :, 1] = [[1, 1, 2, 0], [0, 1, 1, 0]]


def test_two_channels(tmp_path, monkeypatch):
    images = two_channels(tmp_path / "two", CHANNELS)
    options = ["--source_folder", tmp_path / "two", "--images_json_file", images]
    options += ["--predictions_json_file", tmp_path / "pan.json"]
    monkeypatch.setattr(sys, "argv", ["2channels", *map(str, options)])
    two_channels2panoptic_coco_format.main()
    (annotation,) = read(tmp_path / "pan.json")["annotations"]
    categories = {s["id"]: s["category_id"] for s in annotation["segments_info"]}
    ids = read_panoptic_ids(tmp_path / "pan" / "a.png")
    assert sorted(categories.values()) == [1, 1, 5, 200]
    assert [[categories.get(i, 0) for i in row] for row in ids.tolist()] == (
        CHANNELS[:, :, 0].tolist()
    )
    assert ids[0, 0] == ids[0, 1] != ids[0, 2]


def test_two_channels_with_an_unknown_label(tmp_path):
    images = two_channels(tmp_path / "two", CHANNELS + 3)
    with pytest.raises(KeyError, match="unknown semantic label 3"):
        two_channels2panoptic_coco_format.converter(
            tmp_path / "two", images, None, None, tmp_path / "pan.json"
        )


def slow_combination(shape, instances, stuff, overlap_thr, limit):
    """The rule pixel by pixel; returns the category of each pixel's segment and their list."""
    owner = [[None] * shape[1] for _ in range(shape[0])]
    segments = []

    def pixels(mask):
        return [(y, x) for y in range(shape[0]) for x in range(shape[1]) if mask[y, x]]

    for entry in [*instances, *stuff]:
        inside = pixels(entry["mask"])
        free = [(y, x) for y, x in inside if owner[y][x] is None]
        if "score" in entry:
            skip = not inside or (len(inside) - len(free)) / len(inside) > overlap_thr
        else:
            skip = len(free) < limit
        if skip or not free:
            continue
        for y, x in free:
            owner[y][x] = len(segments)
        segments.append(entry["category_id"])
    return owner, segments


@pytest.mark.parametrize("seed", range(30))
def test_combination_against_loops(tmp_path, categories, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 12, 2).tolist())
    overlap_thr, limit = float(rng.choice([0, 0.3, 0.5, 1])), int(rng.integers(0, 20))

    def entry(category_id, **more):
        mask = np.zeros(shape, dtype=bool)
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        mask[y : y + rng.integers(0, 9), x : x + rng.integers(0, 9)] = True
        return {"image_id": 3, "category_id": int(category_id), "mask": mask, **more}

    instances = [
        entry(rng.choice([1, 5]), score=float(s)) for s in rng.permutation(9)[:6] / 10
    ]  # fmt: skip
    stuff = [entry(rng.choice([1, 90, 200])) for _ in range(4)]
    names = {"inst": instances, "sem": stuff}
    for name, entries in names.items():
        rows = [{**e, "segmentation": rle(e["mask"])} for e in entries]
        rows = [{k: v for k, v in row.items() if k != "mask"} for row in rows]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    image = {"id": 3, "height": shape[0], "width": shape[1], "file_name": "im.jpg"}
    (tmp_path / "images.json").write_text(json.dumps({"images": [image]}))
    combine.combine_predictions(
        tmp_path / "sem.json",
        tmp_path / "inst.json",
        tmp_path / "images.json",
        categories,
        None,
        tmp_path / "pan.json",
        0.2,
        overlap_thr,
        limit,
    )
    kept = sorted((e for e in instances if e["score"] >= 0.2), key=lambda e: -e["score"])
    expected, segments = slow_combination(
        shape, kept, [e for e in stuff if e["category_id"] > 5], overlap_thr, limit
    )
    (annotation,) = read(tmp_path / "pan.json")["annotations"]
    assert (annotation["image_id"], annotation["file_name"]) == (3, "im.png")
    assert [s["category_id"] for s in annotation["segments_info"]] == segments
    ids = read_panoptic_ids(tmp_path / "pan" / "im.png").tolist()
    by_order = [s["id"] for s in annotation["segments_info"]]
    assert ids == [[0 if k is None else by_order[k] for k in row] for row in expected]


def test_combination_names_a_mask_of_another_size(tmp_path):
    entry = {"image_id": 1, "category_id": 1, "segmentation": rle(np.ones((2, 2), dtype=bool))}
    image = {"id": 1, "height": 3, "width": 2, "file_name": "a.jpg"}
    with pytest.raises(DataError, match=r"image 1: expected masks of \(3, 2\)"):
        combine.combine_to_panoptic_single_core(
            0, [1], {1: image}, {1: [entry]}, {}, tmp_path, 0.5, 0, BY_ID
        )


def test_cityscapes_truth(tmp_path):
    city = tmp_path / "val" / "bonn"
    city.mkdir(parents=True)
    numbers = np.array([[7, 7, 24], [24_000, 26_001, 29_000], [0, 33, 26_002]], dtype=np.uint16)
    Image.fromarray(numbers).save(city / "bonn_000001_000019_gtFine_instanceIds.png")
    out = tmp_path / "cityscapes_panoptic_val"
    cityscapes_panoptic_converter.panoptic_converter(tmp_path / "val", out, f"{out}.json")
    content = read(f"{out}.json")
    (annotation,) = content["annotations"]
    assert len(content["categories"]) == 19
    assert annotation["image_id"] == "bonn_000001_000019"
    assert annotation["file_name"] == "bonn_000001_000019_gtFine_panoptic.png"
    found = {s["id"]: (s["category_id"], s["iscrowd"], s["area"], s["bbox"])
             for s in annotation["segments_info"]}  # fmt: skip
    assert found == {
        7: (7, 0, 2, [0, 0, 2, 1]),
        24: (24, 1, 1, [2, 0, 1, 1]),
        33: (33, 1, 1, [1, 2, 1, 1]),
        24_000: (24, 0, 1, [0, 1, 1, 1]),
        26_001: (26, 0, 1, [1, 1, 1, 1]),
        26_002: (26, 0, 1, [2, 2, 1, 1]),
    }
    ids = read_panoptic_ids(out / annotation["file_name"])
    assert ids.tolist() == [[7, 7, 24], [24_000, 26_001, 0], [0, 33, 26_002]]


def test_no_cityscapes_files(tmp_path):
    with pytest.raises(DataError, match="holds no"):
        cityscapes_panoptic_converter.panoptic_converter(tmp_path, tmp_path, tmp_path / "x.json")


@pytest.fixture
def sample():
    if not SAMPLE.is_dir():
        pytest.skip("the optional folder data/panopticapi_sample is not there (SEGBENCH_SHARED)")
    return SAMPLE


@pytest.mark.shared_data
def test_the_sample_in_detection_form(sample, tmp_path):
    output = tmp_path / "det.json"
    panoptic2detection_coco_format.convert_panoptic_to_detection_coco_format(
        sample / "panoptic_examples.json", None, output, None, False, strict_compat=True
    )
    reference = read(sample / "panoptic_coco_detection_format.json")
    found = read(output)
    assert found["annotations"] == reference["annotations"]
    assert found["images"] == reference["images"]
    named = [{k: v for k, v in c.items() if k != "color"} for c in reference["categories"]]
    assert found["categories"] == named


@pytest.mark.shared_data
@pytest.mark.parametrize("form", ["detection", "two channels"])
def test_the_sample_back_in_panoptic_form(sample, tmp_path, form):
    output = tmp_path / "pan.json"
    if form == "detection":
        detection2panoptic_coco_format.convert_detection_to_panoptic_coco_format(
            sample / "panoptic_coco_detection_format.json",
            None,
            output,
            sample / "panoptic_coco_categories.json",
        )
    else:
        two_channels2panoptic_coco_format.converter(
            sample / "panoptic_examples_2ch_format",
            sample / "images_info_examples.json",
            None,
            None,
            output,
        )
    result = pq_compute(sample / "panoptic_examples.json", output)
    assert [result[group]["pq"] for group in ("All", "Things", "Stuff")] == [1.0] * 3
    assert result["All"]["n"] == 8
