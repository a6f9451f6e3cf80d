"""COCO's matching and accumulation as compiled loops; every number as pycocotools rounds it."""

from __future__ import annotations

from typing import Any

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import BoolArray, FloatArray, IntArray

_EPSILON = float(np.spacing(1))


@compiled
def match(
    pairs: Any,
    crowd: BoolArray,
    unwanted: BoolArray,
    outside: BoolArray,
    thresholds: FloatArray,
    matched: BoolArray,
    ignored: BoolArray,
) -> None:
    """Match detections, best first.

    A detection takes the free truth of highest IoU, the later one of equals, and one that is to
    be ignored only where no other reaches the threshold. A crowd is always free.

    Args:
        pairs: ``Pairs`` by detection, then truth.
        crowd: bool [G].
        unwanted: bool [A, G], truths to be ignored.
        outside: bool [A, D], detections to be ignored if unmatched.
        thresholds: float64 [T].
        matched: bool [A, T, D] to fill.
        ignored: The same.
    """
    detection, truth, iou = pairs.detection, pairs.truth, pairs.iou
    number = detection.size
    for a in range(unwanted.shape[0]):
        for t in range(thresholds.size):
            taken = np.zeros(crowd.size, dtype=np.bool_)
            ignored[a, t] = outside[a]
            first = 0
            while first < number:
                last, d = first, detection[first]
                best = best_ignored = -1
                reached = reached_ignored = thresholds[t]
                while last < number and detection[last] == d:
                    g = truth[last]
                    if not taken[g] or crowd[g]:
                        if unwanted[a, g]:
                            if iou[last] >= reached_ignored:
                                best_ignored, reached_ignored = g, iou[last]
                        elif iou[last] >= reached:
                            best, reached = g, iou[last]
                    last += 1
                if best < 0:
                    best = best_ignored
                if best >= 0:
                    taken[best] = True
                    matched[a, t, d] = True
                    ignored[a, t, d] = unwanted[a, best]
                first = last


@compiled
def accumulate(
    order: IntArray,
    bounds: IntArray,
    rank: IntArray,
    scores: FloatArray,
    matched: BoolArray,
    ignored: BoolArray,
    truths: IntArray,
    limits: IntArray,
    points: FloatArray,
    precision: FloatArray,
    recall: FloatArray,
    reached: FloatArray,
) -> None:
    """Fill COCO's arrays of precision at each recall, K classes, M limits, R recall points.

    Args:
        order: int64 [D], detections by class, then falling score.
        bounds: int64 [K + 1], where each class begins in it.
        rank: int64 [D], place of a detection among those of its class on its image.
        scores: float64 [D].
        matched: bool [A, T, D].
        ignored: The same.
        truths: int64 [K, A], truths that count.
        limits: int64 [M], detections an image and class.
        points: float64 [R], ascending.
        precision: float64 [T, R, K, A, m] to fill for the last m limits.
        recall: float64 [T, K, A, M] to fill. Cells without truths are left as they are.
        reached: Scores, as ``precision``.
    """
    places = np.empty(order.size, dtype=np.int64)
    true, curve = np.empty(order.size, dtype=np.int64), np.empty(order.size)
    left_out = limits.size - precision.shape[4]
    for k in range(truths.shape[0]):
        for m in range(limits.size):
            number = 0
            for i in range(bounds[k], bounds[k + 1]):
                if rank[order[i]] < limits[m]:
                    places[number] = order[i]
                    number += 1
            for a in range(truths.shape[1]):
                if truths[k, a] < 1:
                    continue
                for t in range(matched.shape[1]):
                    hit, out = matched[a, t], ignored[a, t]
                    right = _right_ones(places[:number], hit, out, true, curve)
                    recall[t, k, a, m] = right / truths[k, a]
                    if m >= left_out:
                        _fill(
                            places[:number], scores, true[:right], curve, truths[k, a], points,
                            precision[t, :, k, a, m - left_out], reached[t, :, k, a, m - left_out],
                        )  # fmt: skip


@compiled
def _right_ones(
    places: IntArray, matched: BoolArray, ignored: BoolArray, true: IntArray, curve: FloatArray
) -> int:
    """Write the detections that are right and the best precision from each of them on."""
    right = counted = 0
    for d in places:
        if not ignored[d]:
            counted += 1
            if matched[d]:
                true[right] = d
                right += 1
                curve[right - 1] = right / (counted + _EPSILON)
    for i in range(right - 1, 0, -1):
        curve[i - 1] = max(curve[i - 1], curve[i])
    return right


@compiled
def _fill(
    places: IntArray,
    scores: FloatArray,
    true: IntArray,
    curve: FloatArray,
    truths: int,
    points: FloatArray,
    precision: FloatArray,
    reached: FloatArray,
) -> None:
    """Write precision and score where each recall is reached first, 0 where it never is.

    A recall of 0 is reached by the first detection, right or wrong.
    """
    i = 0
    for r in range(points.size):
        precision[r] = reached[r] = 0.0
        if points[r] <= 0:
            if places.size:
                reached[r] = scores[places[0]]
                precision[r] = curve[0] if true.size else 0.0
            continue
        while i < true.size and (i + 1) / truths < points[r]:
            i += 1
        if i < true.size:
            precision[r], reached[r] = curve[i], scores[true[i]]


@compiled
def weighted_precision(
    columns: IntArray,
    counted: BoolArray,
    as_before: BoolArray,
    places: IntArray,
    bounds: IntArray,
    weights: FloatArray,
    truths: FloatArray,
    points: FloatArray,
    result: FloatArray,
) -> None:
    """Write the AP of a class for each resample, in which an image counts as often as drawn.

    Args:
        columns: int64 [D], the image of each detection, best score first.
        counted: bool [T, D], detections that are not ignored.
        as_before: bool [T], whether a row of ``counted`` equals the one before.
        places: int64 [P], detections that are right, those of each threshold in turn.
        bounds: int64 [T + 1], where each threshold begins in them.
        weights: float64 [R, N].
        truths: float64 [R].
        points: float64 [101], recalls, ascending.
        result: float64 [R] to fill.
    """
    reached = np.empty(columns.size)
    passed, curve = np.empty(places.size, dtype=np.int64), np.empty(places.size)
    for r in range(weights.shape[0]):
        weight, whole, total = weights[r], max(truths[r], 1.0), 0.0
        for t in range(counted.shape[0]):
            if not as_before[t]:
                running = 0.0
                for i in range(columns.size):
                    if counted[t, i]:
                        running += weight[columns[i]]
                    reached[i] = running
            right = 0.0
            for p in range(bounds[t], bounds[t + 1]):
                i = places[p]
                right += weight[columns[i]]
                curve[p] = right / (reached[i] + _EPSILON)
                nearest = int(np.rint(right / whole * 100))
                passed[p] = nearest + (right / whole >= points[nearest])
            best = 0.0
            for p in range(bounds[t + 1] - 1, bounds[t] - 1, -1):
                best = max(best, curve[p])
                before = passed[p - 1] if p > bounds[t] else 0
                total += (passed[p] - before) * best
        result[r] = total / (points.size * counted.shape[0])
