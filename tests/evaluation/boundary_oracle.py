"""Boundary scores by erosion and loops, written from the papers; seeded scenes to score."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage


def distance_of(shape):
    diagonal = math.sqrt(shape[0] ** 2 + shape[1] ** 2)
    return max(round(0.02 * diagonal), 1)


def boundary_of(mask, distance=None):
    """Mask less its erosion by 3x3, as often as the distance says, background all around."""
    steps = distance_of(mask.shape) if distance is None else distance
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=steps)


def boundary_iou(one, other, ignored=None):
    ours, theirs = boundary_of(one), boundary_of(other)
    if ignored is not None:
        theirs = theirs & ~ignored
    either = int((ours | theirs).sum())
    return Fraction(int((ours & theirs).sum()), either) if either else Fraction(0)


def panoptic_quality(truth, prediction, truths, predictions):
    """Return [sum of IoU, tp, fp, fn] by category; the smaller IoU of mask and boundary counts."""
    table = {}
    matched = set()
    for one, other in itertools.product(truths, predictions):
        category = one["category_id"]
        if one["iscrowd"] or category != other["category_id"]:
            continue
        mask, guess = truth == one["id"], (prediction == other["id"])
        void = truth == 0
        either = int((mask | (guess & ~void)).sum())
        if not either:
            continue
        iou = min(
            Fraction(int((mask & guess).sum()), either), boundary_iou(mask, guess, ignored=void)
        )
        if iou > Fraction(1, 2):
            row = table.setdefault(category, [Fraction(0), 0, 0, 0])
            row[0] += iou
            row[1] += 1
            matched |= {("truth", one["id"]), ("prediction", other["id"])}
    for one in truths:
        if not one["iscrowd"] and ("truth", one["id"]) not in matched:
            table.setdefault(one["category_id"], [Fraction(0), 0, 0, 0])[3] += 1
    for other in predictions:
        excuse = [0] + [
            s["id"] for s in truths if s["iscrowd"] and s["category_id"] == other["category_id"]
        ]
        guess = prediction == other["id"]
        excused = 2 * np.isin(truth[guess], excuse).sum() > guess.sum()
        if ("prediction", other["id"]) not in matched and not excused:
            table.setdefault(other["category_id"], [Fraction(0), 0, 0, 0])[2] += 1
    return table


def contour_of(labels, label):
    """Pixels of a label with a 4-neighbour of another one."""
    inside = labels == label
    found = np.zeros_like(inside)
    for y, x in itertools.product(range(inside.shape[0]), range(inside.shape[1])):
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        near = [(v, u) for v, u in near if 0 <= v < inside.shape[0] and 0 <= u < inside.shape[1]]
        found[y, x] = inside[y, x] and not all(inside[place] for place in near)
    return found


def contour_f(truth, prediction, label, void):
    """F of one class: void truth is left out of precision; None without any contour."""
    reach = 0.0075 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)
    ours, theirs = contour_of(truth, label), contour_of(prediction, label)
    counted = theirs & (truth != void)
    if not ours.any() and not counted.any():
        return None
    recall = _share_near(ours, theirs, reach)
    precision = _share_near(counted, ours, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_near(points, others, reach):
    places, targets = np.argwhere(points), np.argwhere(others)
    if not len(places) or not len(targets):
        return 0.0
    squares = ((places[:, None] - targets[None]) ** 2).sum(axis=2)
    return float((squares.min(axis=1) <= reach**2).mean())


def blobs(rng, height, width, number):
    """An id map [H, W], 0 to ``number``: ellipses and boxes, later ones on top."""
    canvas = np.zeros((height, width), dtype=np.int32)
    rows, columns = np.ogrid[:height, :width]
    for label in range(1, number + 1):
        y, x = rng.integers(0, height), rng.integers(0, width)
        ry, rx = rng.integers(1, height // 2 + 2), rng.integers(1, width // 2 + 2)
        if rng.integers(0, 2):
            shape = (rows - y) ** 2 * rx**2 + (columns - x) ** 2 * ry**2 <= rx**2 * ry**2
        else:
            shape = (abs(rows - y) <= ry) & (abs(columns - x) <= rx)
        canvas[shape] = label
    return canvas


def panoptic_scene(seed, height, width):
    """Truth and prediction of one image: maps and segments of categories 3, 7 and 90."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, 8))
    truth = blobs(rng, height, width, number)
    other = blobs(rng, height, width, number)
    moved = np.roll(truth, rng.integers(-2, 3, 2), axis=(0, 1))
    prediction = moved if rng.integers(0, 4) else other
    ids = rng.permutation(np.arange(1000, 1000 + 2 * number * 9001, 9001))
    category = rng.choice([3, 7, 90], number + 1)
    crowd = rng.integers(0, 6, number + 1) == 0
    guess = np.where(rng.integers(0, 5, number + 1) == 0, 3, category)
    sides = []
    for labels, named, first in ((truth, category, 0), (prediction, guess, number)):
        table = np.concatenate([[0], ids[first : first + number]])
        segments = [
            {
                "id": int(table[k]), "category_id": int(named[k]), "iscrowd": int(crowd[k]),
                "area": int((labels == k).sum()), "bbox": [0, 0, 1, 1],
            }
            for k in np.unique(labels[labels > 0])
        ]  # fmt: skip
        sides.append((table[labels].astype(np.int32), segments))
    return sides


def instance_scene(seed, images=6):
    """COCO truth and detections with RLE masks: crowds, shifted copies, holes, strangers."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": 2}, {"id": 5}]}
    detections = []
    for image_id in range(1, images + 1):
        height, width = (int(n) for n in rng.integers(20, 140, 2))
        truth["images"].append({"id": image_id, "height": height, "width": width})
        for _ in range(int(rng.integers(0, 4))):
            mask = _object(rng, height, width)
            entry = _described(mask, image_id, int(rng.choice([2, 5])))
            crowd = int(rng.integers(0, 6) == 0)
            number = len(truth["annotations"]) + 1
            area = {"area": int(mask.sum()), "iscrowd": crowd, "id": number}
            truth["annotations"].append({**entry, **area})
            for _ in range(int(rng.integers(0, 4))):
                moved = np.roll(mask, rng.integers(-2, 3, 2), axis=(0, 1))
                guess = moved if rng.integers(0, 4) else _object(rng, height, width)
                found = _described(guess, image_id, entry["category_id"])
                detections.append({**found, "score": int(rng.integers(1, 20)) / 20})
    return truth, detections


def _object(rng, height, width):
    mask = blobs(rng, height, width, 1) > 0
    if rng.integers(0, 5) == 0:
        mask &= rng.integers(0, 40, mask.shape) > 0
    mask[height // 2, width // 2] = True
    return mask


def _described(mask, image_id, category_id):
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    shape = {"size": [int(n) for n in found["size"]], "counts": found["counts"].decode()}
    box = coco_mask.toBbox(found).tolist()
    return {
        "image_id": image_id, "category_id": category_id, "segmentation": shape, "bbox": box
    }  # fmt: skip
