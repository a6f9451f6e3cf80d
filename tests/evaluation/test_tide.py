"""Errors by kind (TIDE): loops that mend them one by one, known cases, files."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.evaluation.instance import tide

HEIGHT = WIDTH = 24


def encoded(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def rectangle(y, x, height, width):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def entry(image, category, mask, **more):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [0, 0, 0, 0]
    if len(rows):
        low, left = rows[0], columns[0]
        box = [left, low, columns[-1] - left + 1, rows[-1] - low + 1]
    return {"image_id": image, "category_id": category, "bbox": [float(v) for v in box],
            "segmentation": encoded(mask), **more}  # fmt: skip


def truth_of(annotations, images=1, categories=3):
    for number, annotation in enumerate(annotations, start=1):
        annotation |= {"id": number, "area": float(annotation["bbox"][2] * annotation["bbox"][3])}
        annotation.setdefault("iscrowd", 0)
    return {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(1, images + 1)],
        "categories": [{"id": k * 5, "name": f"class {k}"} for k in range(1, categories + 1)],
        "annotations": annotations,
    }


def random_case(seed):
    """Truths, crowds and detections near them; many scores are equal."""
    rng = np.random.default_rng(seed)
    images, categories = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    annotations, detections = [], []

    def category():
        return int(rng.integers(1, categories + 1)) * 5

    for image in range(1, images + 1):
        near = []
        for _ in range(rng.integers(0, 6)):
            place = *rng.integers(0, 16, 2).tolist(), *rng.integers(1, 13, 2).tolist()
            own = category()
            crowd = int(rng.random() < 0.15)
            annotations.append(entry(image, own, rectangle(*place), iscrowd=crowd))
            near.append((place, own))
        for _ in range(rng.integers(0, 10)):
            place, own = (*rng.integers(0, 16, 2), *rng.integers(1, 13, 2)), category()
            if near and rng.random() < 0.8:
                place, own = near[rng.integers(len(near))]
                shift = rng.integers(-2, 3, 4) * (rng.random() < 0.7)
                place = np.maximum(np.array(place) + shift, [0, 0, 1, 1])
                own = own if rng.random() < 0.7 else category()
            score = round(float(rng.random()), int(rng.integers(1, 4)))
            detections.append(entry(image, own, rectangle(*place), score=score))
    return truth_of(annotations, images, categories), detections


def iou_of(one, other, iou_type, *, crowd=False):
    if iou_type == "bbox":
        shapes = [np.array([e["bbox"]]) for e in (one, other)]
        return float(coco_mask.iou(*shapes, [int(crowd)])[0, 0])
    first, second = (coco_mask.decode(e["segmentation"]) > 0 for e in (one, other))
    whole = first.sum() if crowd else (first | second).sum()
    return (first & second).sum() / whole if whole else 0.0


def slow_image(truths, detections, iou_type):
    """Say of each detection what it is: (detection, "hit" | "ignored" | kind, truth, ignored)."""
    single = [t for t in truths if not t["iscrowd"]]
    best = sorted(detections, key=lambda d: -d["score"])[:100]
    overlaps = [[iou_of(d, t, iou_type) for t in single] for d in best]
    hits = {}
    for d, row in zip(best, overlaps, strict=True):
        free = [(iou, -g) for g, (iou, t) in enumerate(zip(row, single, strict=True))
                if t["category_id"] == d["category_id"] and g not in hits]  # fmt: skip
        if free and max(free)[0] >= 0.5:
            hits[-max(free)[1]] = d
    rows = []
    for d, row in zip(best, overlaps, strict=True):
        if any(d is hit for hit in hits.values()):
            rows.append((d, "hit", None, False))
            continue
        ignored = any(t["iscrowd"] and t["category_id"] == d["category_id"]
                      and iou_of(d, t, iou_type, crowd=True) > 0.5 for t in truths)  # fmt: skip
        own = [(iou if t["category_id"] == d["category_id"] else 0.0)
               for iou, t in zip(row, single, strict=True)]  # fmt: skip
        other = [(iou if t["category_id"] != d["category_id"] else 0.0)
                 for iou, t in zip(row, single, strict=True)]  # fmt: skip
        kind, truth = "both", None
        if own and 0.1 <= max(own) <= 0.5:
            kind, truth = "localisation", own.index(max(own))
        elif other and max(other) >= 0.5:
            kind, truth = "classification", other.index(max(other))
        elif any(own[g] >= 0.5 for g in hits):
            kind = "duplicate"
        elif max(row, default=0.0) <= 0.1:
            kind = "background"
        rows.append((d, kind, truth, ignored))
    return rows, single, set(hits)


def slow_ap(points, truths):
    if not truths:
        return 0.0
    points = sorted(points, key=lambda point: -point[0])
    curve = []
    for n in range(1, len(points) + 1):
        hits = sum(hit for _, hit in points[:n])
        curve.append((hits / truths, hits / n))
    return sum(max((p for r, p in curve if r >= i / 100), default=0.0) for i in range(101)) / 101


def slow_mean(points, truths):
    classes = {c for c, n in truths.items() if n} | {c for c, _, _ in points}
    if not classes:
        return None
    return np.mean([
        slow_ap([(s, hit) for k, s, hit in points if k == c], truths.get(c, 0)) for c in classes
    ])  # fmt: skip


def slow_split(truth, detections, iou_type, mend):
    """Return (class, score, hit) of the detections and truths by class, one kind mended."""
    false, hits, truths, counts = [], [], {}, dict.fromkeys(tide.KINDS, 0)
    for image in truth["images"]:
        of_image = [[e for e in entries if e["image_id"] == image["id"]]
                    for entries in (truth["annotations"], detections)]  # fmt: skip
        rows, single, taken = slow_image(*of_image, iou_type)
        near = {}
        for d, _, g, _ in rows:
            if g is not None and g not in taken:
                near.setdefault(g, d)
        for g, t in enumerate(single):
            missed = g not in taken and g not in near
            counts["missed"] += missed
            gone = (missed and mend == "missed") or (g not in taken and mend == "false_negative")
            truths[t["category_id"]] = truths.get(t["category_id"], 0) + (not gone)
        for d, kind, g, ignored in rows:
            score = float(kind == "hit") if mend == "false_positive" else d["score"]
            if kind == "hit":
                hits.append((d["category_id"], score, True))
                continue
            counts[kind] += 1
            if kind == mend and near.get(g) is d:
                false.append((single[g]["category_id"], score, True))
            elif kind != mend and not ignored:
                false.append((d["category_id"], score, False))
    return false, hits, truths, counts


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(20))
def test_split_against_loops(seed, iou_type):
    truth, detections = random_case(seed)
    found = tide.split_errors(truth, detections, iou_type=iou_type)
    for mend in (*tide.KINDS, *tide.SPECIAL):
        false, hits, truths, counts = slow_split(truth, detections, iou_type, mend)
        expected = slow_mean([*false, *hits], truths)
        base = found.ap50
        if expected is None or base is None:
            assert found.dap50[mend] is None
            continue
        gain = expected - base
        gain = max(gain, 0.0) if mend in tide.KINDS else gain
        assert found.dap50[mend] == pytest.approx(gain, abs=1e-12)
    assert found.as_dict()["counts"] == counts


A, B = rectangle(0, 0, 10, 10), rectangle(12, 12, 10, 10)
CASES = {
    "localisation": [entry(1, 5, rectangle(0, 0, 10, 4), score=0.9), entry(1, 10, B, score=0.8)],
    "classification": [entry(1, 10, A, score=0.9), entry(1, 10, B, score=0.8)],
    "both": [entry(1, 10, rectangle(0, 0, 10, 4), score=0.9), entry(1, 10, B, score=0.8),
             entry(1, 5, A, score=0.7)],
    "duplicate": [entry(1, 5, A, score=0.8), entry(1, 5, A, score=0.9), entry(1, 10, B, score=0.8)],
    "background": [entry(1, 5, rectangle(0, 14, 4, 4), score=0.9), entry(1, 5, A, score=0.8),
                   entry(1, 10, B, score=0.8)],
    "missed": [entry(1, 5, A, score=0.9)],
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_has_its_case(kind):
    truth = truth_of([entry(1, 5, A), entry(1, 10, B)])
    found = tide.split_errors(truth, CASES[kind], iou_type="segm")
    counts = found.as_dict()["counts"]
    assert {k for k, n in counts.items() if n} == {kind}
    if kind in ("localisation", "classification", "missed"):
        assert found.ap50 + found.dap50[kind] == pytest.approx(1.0)
    row = next(row for row in found.as_dict()["per_class"] if row[kind])
    assert row["id"] == {"classification": 10, "both": 10, "missed": 10}.get(kind, 5)


def test_perfect_detections_have_no_errors():
    truth = truth_of([entry(1, 5, A), entry(1, 10, B)])
    detections = [entry(1, 5, A, score=0.5), entry(1, 10, B, score=0.5)]
    found = tide.split_errors(truth, detections, iou_type="bbox")
    assert found.ap50 == 1.0
    assert set(found.dap50.values()) == {0.0}
    assert not found.counts.any()


def test_nothing_to_score():
    found = tide.split_errors(truth_of([], images=2), [], iou_type="segm")
    assert found.ap50 is None
    assert set(found.dap50.values()) == {None}


def test_a_detection_on_a_crowd_is_out_of_the_ap():
    truth = truth_of([entry(1, 5, A, iscrowd=1), entry(1, 5, B)])
    detections = [entry(1, 5, A, score=0.9), entry(1, 5, B, score=0.8)]
    found = tide.split_errors(truth, detections, iou_type="segm")
    assert found.ap50 == 1.0
    assert found.as_dict()["counts"]["background"] == 1


def test_the_hundred_best_of_an_image_count():
    truth = truth_of([entry(1, 5, A)])
    many = [entry(1, 10, B, score=0.9) for _ in range(100)]
    found = tide.split_errors(truth, [*many, entry(1, 5, A, score=0.1)], iou_type="bbox")
    assert found.ap50 == 0.0
    assert found.as_dict()["counts"]["missed"] == 1


def test_files_of_polygons_run_lists_and_masks_without_boxes(tmp_path):
    truth, detections = random_case(3)
    expected = {t: tide.split_errors(copy.deepcopy(truth), copy.deepcopy(detections), iou_type=t)
                for t in ("segm", "bbox")}  # fmt: skip
    for detection in detections:
        del detection["bbox"]
        mask = coco_mask.decode(detection["segmentation"]).ravel(order="F")
        changes = np.flatnonzero(np.diff(np.concatenate([[0], mask]))).tolist()
        runs = np.diff([0, *changes, mask.size]).tolist()
        detection["segmentation"]["counts"] = runs
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(detections))
    found = tide.split_files(tmp_path / "truth.json", tmp_path / "results.json")
    assert {t: s.as_dict() for t, s in found.items()} == {
        t: s.as_dict() for t, s in expected.items()
    }


def test_broken_files_are_refused(tmp_path):
    truth, detections = random_case(3)
    detections[0]["category_id"] = 99
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(detections))
    with pytest.raises(DataError, match="1 detections have an unknown category"):
        tide.split_files(tmp_path / "truth.json", tmp_path / "results.json")


FIGURES = {
    "ap50": 22.263083451202263,
    "classification": 3.5344963067735335,
    "localisation": 15.31353135313531,
    "both": 0.6412069778406426,
    "duplicate": 0.0,
    "background": 1.2022630834512036,
    "missed": 21.244695898161247,
    "false_positive": 15.360678925035366,
    "false_negative": 29.165487977369132,
}
"""What tidecv 1.0.1 gives for the masks of seed 10, in percent."""


def test_figures_of_tidecv():
    found = tide.split_errors(*random_case(10), iou_type="segm")
    assert {"ap50": 100 * found.ap50, **{k: 100 * v for k, v in found.dap50.items()}} == (
        pytest.approx(FIGURES)
    )
