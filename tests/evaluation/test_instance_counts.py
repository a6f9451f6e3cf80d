"""COCO numbers: equal to a direct pycocotools run, and broken files refused."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation.instance import average_precision as instance
from segbench.evaluation.protocol import get_protocol

PROTOCOL = get_protocol("coco-instances")
ONE = pytest.approx(1.0, abs=3e-16)
"""COCOeval divides by tp + fp + 2.2e-16: with a single truth in a class, AP misses 1 by that."""
KEYS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def shape_of(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return coco_mask.toBbox(encoded).tolist(), int(coco_mask.area(encoded))


def ellipse(rng, height, width, around=None):
    """A filled ellipse; ``around`` (y, x, ry, rx) draws a disturbed copy of another one."""
    if around is None:
        around = (*rng.uniform(0, [height, width]), *rng.uniform(2, 0.6 * min(height, width), 2))
        values = np.array(around)
    else:
        values = np.array(around) * rng.uniform(0.85, 1.15, 4)
    y, x = np.mgrid[:height, :width]
    mask = ((y - values[0]) / values[2]) ** 2 + ((x - values[1]) / values[3]) ** 2 <= 1
    mask[int(np.clip(values[0], 0, height - 1)), int(np.clip(values[1], 0, width - 1))] = True
    return mask, tuple(values)


def random_files(rng, *, images=5, size=(60, 220)):
    """A truth with crowds, empty images and classes without truth; detections near it."""
    ids = sorted(rng.choice(np.arange(1, 99), images, replace=False).tolist())
    categories = [{"id": i, "name": str(i)} for i in (2, 5, 11)]
    truth = {"images": [], "annotations": [], "categories": categories}
    detections = []
    for image_id in ids:
        height, width = rng.integers(*size, 2).tolist()
        truth["images"].append({"id": image_id, "height": height, "width": width})
        for _ in range(int(rng.integers(0, 6))):
            mask, values = ellipse(rng, height, width)
            box, area = shape_of(mask)
            annotation = {
                "id": len(truth["annotations"]) + 1,
                "image_id": image_id,
                "category_id": int(rng.choice([2, 5])),
                "iscrowd": int(rng.random() < 0.2),
                "area": area,
                "bbox": box,
                "segmentation": rle(mask),
            }
            truth["annotations"].append(annotation)
            for _ in range(int(rng.integers(0, 4))):
                detections.append(_near(rng, annotation, values, height, width))
        for _ in range(int(rng.integers(0, 3))):
            mask, _ = ellipse(rng, height, width)
            detections.append(_detection(rng, image_id, int(rng.choice([2, 5, 11])), mask))
    rng.shuffle(detections)
    return truth, list(detections)


def _near(rng, annotation, values, height, width):
    mask, _ = ellipse(rng, height, width, values)
    category = annotation["category_id"] if rng.random() < 0.9 else 11
    return _detection(rng, annotation["image_id"], category, mask)


def _detection(rng, image_id, category_id, mask):
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rle(mask),
        "bbox": shape_of(mask)[0],
        "score": float(round(rng.random(), 1)),  # coarse, so that ties are common
    }


def direct(truth, detections, iou_type):
    """The 12 numbers of pycocotools itself, with -1 as None."""
    detections = copy.deepcopy(detections)
    if iou_type == "segm":
        for detection in detections:
            detection.pop("bbox", None)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(detections), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else value for value in evaluator.stats.tolist()]


def write(folder, truth, detections):
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(detections))
    return folder / "truth.json", folder / "results.json"


def numbers(counts):
    prefix = "box_" if counts.iou_type == "bbox" else ""
    found = instance.scores(counts, PROTOCOL)
    return [found[prefix + key] for key in KEYS]


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_twelve_numbers_equal_pycocotools(tmp_path, iou_type):
    rng = np.random.default_rng(5)
    compared = 0
    for _ in range(40):
        truth, detections = random_files(rng)
        counts = instance.match(*write(tmp_path, truth, detections), iou_type=iou_type)
        if not detections:
            continue
        assert numbers(counts) == direct(truth, detections, iou_type)
        kept = counts.image_ids[::2]
        part = {**truth, "images": [i for i in truth["images"] if i["id"] in kept]}
        part["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
        seen = [d for d in detections if d["image_id"] in kept]
        if seen:
            assert numbers(counts.subset(kept)) == direct(part, seen, iou_type)
            compared += 1
    assert compared > 30


def test_splits_of_images_merge_to_the_whole(tmp_path):
    rng = np.random.default_rng(2)
    for _ in range(8):
        counts = instance.match(*write(tmp_path, *random_files(rng)), iou_type="segm")
        ids = rng.permutation(counts.image_ids).tolist()
        parts = [counts.subset([image_id]) for image_id in ids]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole + part
        assert whole.image_ids == counts.image_ids
        assert (whole.cells == counts.cells).all()
        assert instance.scores(whole, PROTOCOL) == instance.scores(counts, PROTOCOL)


def _simple():
    mask = np.zeros((40, 50), dtype=bool)
    mask[5:25, 10:30] = True
    box, area = shape_of(mask)
    truth = {
        "images": [{"id": i, "height": 40, "width": 50} for i in (1, 2)],
        "categories": [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "area": area, "iscrowd": 0}
            | {"bbox": box, "segmentation": rle(mask)}
        ],
    }
    detection = {"image_id": 1, "category_id": 3, "segmentation": rle(mask), "bbox": box}
    return truth, {**detection, "score": 0.9}


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_no_detections_score_zero_not_an_error(tmp_path, iou_type):
    truth, _ = _simple()
    found = numbers(instance.match(*write(tmp_path, truth, []), iou_type=iou_type))
    expected = dict.fromkeys(KEYS, 0.0) | dict.fromkeys(
        ("ap_medium", "ap_large", "ar_medium", "ar_large")
    )
    assert dict(zip(KEYS, found, strict=True)) == expected


def test_no_truth_has_no_score(tmp_path):
    truth, detection = _simple()
    files = write(tmp_path, {**truth, "annotations": []}, [detection])
    assert numbers(instance.match(*files, iou_type="segm")) == [None] * 12


def test_oracle_and_per_class(tmp_path):
    truth, detection = _simple()
    counts = instance.match(*write(tmp_path, truth, [detection]), iou_type="bbox")
    found = instance.scores(counts, PROTOCOL)
    assert (found["box_ap"], found["box_ar_1"], found["box_ap_large"]) == (ONE, 1.0, None)
    assert [row["box_ap50"] for row in found["per_class"]] == [ONE, None]


def test_per_class_means_give_the_overall_number(tmp_path):
    rng = np.random.default_rng(9)
    counts = instance.match(*write(tmp_path, *random_files(rng, images=8)), iou_type="segm")
    found = instance.scores(counts, PROTOCOL)
    for key in ("ap", "ap50", "ap75", "ar_100"):
        rows = [row[key] for row in found["per_class"] if row[key] is not None]
        assert found[key] == pytest.approx(sum(rows) / len(rows), abs=1e-12)


def test_area_of_a_detection_is_its_mask_not_its_box(tmp_path):
    """A false thin mask in a large box is small: it must not lower the AP of large objects."""
    truth, detection = _simple()
    big = np.zeros((300, 300), dtype=bool)
    big[:200, :200] = True
    box, area = shape_of(big)
    truth["images"][0] |= {"height": 300, "width": 300}
    truth["annotations"][0] |= {"area": area, "bbox": box, "segmentation": rle(big)}
    line = np.eye(300, dtype=bool)
    thin = {**detection, "segmentation": rle(line), "bbox": [0, 0, 300, 300], "score": 1.0}
    good = {**detection, "segmentation": rle(big), "bbox": box}
    files = write(tmp_path, truth, [thin, good])
    assert instance.scores(instance.match(*files, iou_type="segm"), PROTOCOL)["ap_large"] == ONE


def test_boxes_come_from_masks_where_no_detection_has_one(tmp_path):
    truth, detection = _simple()
    del detection["bbox"]
    files = write(tmp_path, truth, [detection])
    assert instance.scores(instance.match(*files, iou_type="bbox"), PROTOCOL)["box_ap"] == ONE


def test_uncompressed_runs_are_read(tmp_path):
    truth, detection = _simple()
    # Column by column: 10 columns of 40 and 5 rows, then 20 times 20 inside and 20 outside.
    runs = [405, *[20] * 39, 20 * 40 + 15]
    detection["segmentation"] = {"size": [40, 50], "counts": runs}
    files = write(tmp_path, truth, [detection])
    assert instance.scores(instance.match(*files, iou_type="segm"), PROTOCOL)["ap"] == ONE


def test_image_scores_are_f1_of_confident_detections(tmp_path):
    truth, detection = _simple()
    wrong = {**detection, "category_id": 8}
    weak = {**wrong, "score": 0.4}
    found = {}
    for name, detections in {
        "right": [detection],
        "one wrong": [detection, wrong],
        "weak ones do not count": [detection, weak],
        "nothing": [],
    }.items():
        counts = instance.match(*write(tmp_path, truth, detections), iou_type="segm")
        found[name] = instance.image_scores(counts)
    assert found == {
        "right": {1: 1.0, 2: None},
        "one wrong": {1: 2 / 3, 2: None},
        "weak ones do not count": {1: 1.0, 2: None},
        "nothing": {1: 0.0, 2: None},
    }


@pytest.mark.fault(16)
def test_many_faults_are_counted_with_three_examples(tmp_path):
    truth, detection = _simple()
    wrong = [{**detection, "category_id": i, "score": 2} for i in (0, 1, 2, 4, 5)]
    with pytest.raises(DataError) as error:
        instance.match(*write(tmp_path, truth, wrong), iou_type="segm")
    first, second = error.value.what.splitlines()
    assert first.endswith("category; first [0] category_id 0, [1] category_id 1, [2] category_id 2")
    assert "5 detections have a score" in second
    assert "its category ids start 3, 8" in error.value.fix


def test_a_protocol_of_another_task_is_refused(tmp_path):
    truth, detection = _simple()
    counts = instance.match(*write(tmp_path, truth, [detection]), iou_type="segm")
    with pytest.raises(ConfigError, match="semantic, not instance"):
        instance.scores(counts, get_protocol("semantic-pooled"))
