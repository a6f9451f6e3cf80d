"""Matches, accumulated arrays and the 12 numbers equal pycocotools, to the last bit."""

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

from segbench.evaluation.instance.accumulate import accumulate
from segbench.evaluation.instance.average_precision import match_entries, match_table, scores
from segbench.evaluation.instance.items import table_of
from segbench.evaluation.instance.reading import read_table
from segbench.evaluation.instance.shapes import BrokenMaskError, mask_text, read_masks
from segbench.evaluation.protocol import get_protocol

SIDES = [4, 31, 32, 33, 60, 95, 96, 97]
"""32 x 32 and 96 x 96 are the limits of COCO's area ranges."""


def rle(box, size):
    mask = np.zeros(size, dtype=np.uint8, order="F")
    x, y, width, height = box
    mask[y : y + height, x : x + width] = 1
    found = coco_mask.encode(mask)
    return {"size": list(size), "counts": found["counts"].decode()}


def random_box(rng):
    width, height = rng.choice(SIDES, 2).tolist()
    if rng.random() < 0.5:
        height = width
    return [*rng.integers(0, 12, 2).tolist(), width, height]


def near(rng, box):
    moved = [max(0, v + int(rng.integers(-3, 4))) for v in box[:2]]
    return [*moved, *box[2:]] if rng.random() < 0.7 else random_box(rng)


def random_case(rng):
    """Crowds, equal objects, equal scores, images and classes without anything, over 100 a cell."""
    size = (112, 112)
    images = [{"id": int(i), "height": 112, "width": 112} for i in rng.permutation(9)[:3] + 1]
    kinds = [{"id": i} for i in (7, 3)]
    annotations, detections = [], []
    for image in images:
        boxes = [random_box(rng) for _ in range(int(rng.integers(0, 5)))]
        boxes += [list(box) for box in boxes if rng.random() < 0.3]
        for box in boxes:
            entry = {"image_id": image["id"], "category_id": int(rng.choice([3, 7]))}
            area = box[2] * box[3] if rng.random() < 0.7 else float(rng.choice([1024, 9216, 1e10]))
            crowd = int(rng.random() < 0.25)
            extra = {"id": len(annotations) + 1, "bbox": box, "area": area, "iscrowd": crowd}
            annotations.append(entry | extra | {"segmentation": rle(box, size)})
        number = int(rng.integers(0, 9)) if rng.random() < 0.98 else 300
        for _ in range(number):
            box = near(rng, boxes[rng.integers(len(boxes))]) if boxes else random_box(rng)
            detections.append(
                {
                    "image_id": image["id"], "category_id": int(rng.choice([3, 7])), "bbox": box,
                    "segmentation": rle(box, size), "score": round(float(rng.random()), 1),
                }
            )  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": kinds}, detections


def reference(truth, detections, iou_type):
    """pycocotools' evaluator after a full run."""
    if iou_type == "segm":
        detections = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def compare(counts, evaluator):
    areas, images = 4, len(evaluator.params.imgIds)
    place = np.cumsum(np.vstack([[0, 0], counts.cells[:, 2:]]), axis=0)
    seen = set()
    for (k, i, _, _), (d, g), (d_end, g_end) in zip(
        counts.cells.tolist(), place[:-1].tolist(), place[1:].tolist(), strict=True
    ):
        seen.add((k, i))
        for a in range(areas):
            entry = evaluator.evalImgs[(k * areas + a) * images + i]
            assert entry["dtScores"] == counts.scores[d:d_end].tolist()
            assert ((entry["dtMatches"] != 0) == counts.matched[a, :, d:d_end]).all()
            assert ((entry["dtIgnore"] != 0) == counts.ignored[a, :, d:d_end]).all()
            assert np.array_equal(entry["gtIgnore"], counts.truth_ignored[a, g:g_end])
    entries = enumerate(evaluator.evalImgs)
    filled = {(n // (areas * images), n % images) for n, entry in entries if entry is not None}
    assert filled == seen


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_everything_equals_pycocotools(iou_type, tmp_path):
    check_cases(iou_type, tmp_path, seed=11, number=150)


@pytest.mark.slow
@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_everything_equals_pycocotools_in_a_thousand_cases(iou_type, tmp_path):
    check_cases(iou_type, tmp_path, seed=12, number=1000)


def check_cases(iou_type, tmp_path, *, seed, number):
    rng = np.random.default_rng(seed)
    protocol = get_protocol("coco-instances")
    compared = 0
    for _ in range(number):
        truth, detections = random_case(rng)
        if not detections:
            assert not match_entries(truth, detections, iou_type=iou_type).matched.size
            continue
        counts = match_table(from_files(tmp_path, truth, detections, iou_type), iou_type)
        evaluator = reference(truth, detections, iou_type)
        compare(counts, evaluator)
        found = accumulate(counts)
        for key in ("precision", "recall", "scores"):
            assert np.array_equal(getattr(found, key), evaluator.eval[key])
        numbers = list(scores(counts, protocol).values())[:12]
        assert [-1 if value is None else value for value in numbers] == evaluator.stats.tolist()
        compared += 1
    assert compared > 0.9 * number


def from_files(folder, truth, detections, iou_type):
    """Read the files at once; what is read entry by entry must be the same."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(detections))
    table = read_table(folder / "truth.json", folder / "results.json", (iou_type,))
    other = table_of(truth, detections, (iou_type,))
    for one, two in ((table.truths, other.truths), (table.detections, other.detections)):
        assert (one.cell == two.cell).all()
        if iou_type == "bbox":
            assert (one.boxes.values == two.boxes.values).all()
        else:
            assert (one.masks.areas == two.masks.areas).all()
            assert (one.masks.boxes == two.masks.boxes).all()
    return table


def noise(rng):
    """A mask of many runs, some over several columns; sometimes empty or full."""
    size = rng.integers(1, 40, 2).tolist()
    mask = rng.random(size) < rng.choice([0, 0.02, 0.5, 0.98, 1])
    found = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": size, "counts": found["counts"]}


def test_area_and_box_of_a_mask_are_those_of_pycocotools():
    rng = np.random.default_rng(3)
    masks = [noise(rng) for _ in range(2000)]
    sizes = np.array([mask["size"] for mask in masks])
    texts = [mask_text(mask, *mask["size"]) for mask in masks]
    found = read_masks(texts, sizes[:, 0].copy(), sizes[:, 1].copy())
    assert found.areas.tolist() == [int(coco_mask.area(mask)) for mask in masks]
    assert found.boxes.tolist() == [coco_mask.toBbox(mask).tolist() for mask in masks]


def test_every_changed_character_of_a_mask_is_seen_or_changes_no_pixel():
    """A mask with one character replaced is refused unless its runs still fill the image."""
    rng = np.random.default_rng(5)
    refused = kept = 0
    for _ in range(3000):
        mask = noise(rng)
        height, width = mask["size"]
        text = bytearray(mask["counts"])
        text[rng.integers(len(text))] = rng.integers(32, 127)
        runs = decoded(bytes(text))
        right = runs is not None and min(runs) >= 0 and sum(runs) == height * width
        quoted = mask_text({"counts": bytes(text)}, height, width)
        try:
            found = read_masks([quoted], np.array([height]), np.array([width]))
        except BrokenMaskError:
            refused += 1
            assert not right
        else:
            kept += 1
            assert right
            assert found.areas[0] == sum(runs[1::2])
    assert refused > 2000
    assert kept > 20


def decoded(text):
    """Runs by the plain loop of the format; None where a character is none of it."""
    runs, place = [], 0
    while place < len(text):
        value = shift = 0
        while True:
            if place == len(text) or not 48 <= text[place] < 112:
                return None
            code = text[place] - 48
            place += 1
            value += (code & 31) << shift
            shift += 5
            if not code & 32:
                break
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
