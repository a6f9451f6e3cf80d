"""The matching of all images at once equals pycocotools, detection by detection."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segbench.evaluation.instance import match_entries, scores
from segbench.evaluation.protocol import get_protocol

SIDES = [4, 31, 32, 33, 60, 95, 96, 97]
"""32 x 32 and 96 x 96 are the limits of COCO's area ranges."""
CASES = 600


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
def test_every_match_equals_pycocotools(iou_type):
    rng = np.random.default_rng(11)
    protocol = get_protocol("coco-instances")
    compared = 0
    for _ in range(CASES):
        truth, detections = random_case(rng)
        counts = match_entries(truth, detections, iou_type=iou_type)
        if not detections:
            assert not counts.matched.size
            continue
        evaluator = reference(truth, detections, iou_type)
        compare(counts, evaluator)
        found = list(scores(counts, protocol).values())[:12]
        assert [-1 if value is None else value for value in found] == evaluator.stats.tolist()
        compared += 1
    assert compared > 0.9 * CASES
