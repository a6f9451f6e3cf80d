"""COCO's numbers of weighted images; axes as in ``segbench.evaluation.weighted``.

T IoU thresholds, D detections of one class best score first, P of them true positives.
A weight of w stands for w copies of an image whose equal scores lie side by side; COCOeval
breaks ties between copies by file order instead.

Precision between two true positives only falls, so its envelope needs the places of the true
positives alone: each adds (recall points it reaches) x (best precision from there on) / 101.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from segbench.evaluation._weighted_semantic import divide, mean_known
from segbench.evaluation.instance import IOU_KEYS, InstanceCounts
from segbench.types import BoolArray, FloatArray, IntArray

_KEYS = (
    *("ap", *IOU_KEYS, "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)
METRICS: Mapping[str, bool] = {
    **dict.fromkeys(_KEYS, False),
    **dict.fromkeys((f"{key}." for key in _KEYS), True),
}
"""Metric -> whether a class follows."""
_AREAS = {"small": 1, "medium": 2, "large": 3}
_THRESHOLDS = {key: slice(place, place + 1) for place, key in enumerate(IOU_KEYS)}
_MAX_DETECTIONS = {"ar_1": 1, "ar_10": 10}
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)
_CELLS = 2_000_000
"""Weights of detections held at a time, R x D."""


@dataclass(frozen=True, eq=False)
class _Class:
    """Detections of a class: ``columns`` [D] of their images, ``hit``, ``counted`` [T, D]."""

    columns: IntArray
    hit: BoolArray
    counted: BoolArray


def evaluator(
    counts: InstanceCounts, place: IntArray, *, key: str, index: int | None
) -> tuple[IntArray, Callable[[FloatArray], FloatArray]]:
    """Return truths [N, C] without crowds, and the score of weights [R, N]."""
    area = _AREAS.get(key.partition("_")[2], 0)
    wanted = range(len(counts.category_ids)) if index is None else [index]
    truth = _truths(counts, place, area)
    classes = [_class(counts, place, k, area, key) for k in wanted]
    chosen = truth[:, list(wanted)].astype(np.float64)
    measure = _average_recall if key.startswith("ar") else _average_precision
    return _truths(counts, place, 0), partial(_mean_over_classes, classes, chosen, measure)


def _truths(counts: InstanceCounts, place: IntArray, area: int) -> IntArray:
    cell = np.repeat(np.arange(len(counts.cells)), counts.cells[:, 3])
    kept = cell[~counts.truth_ignored[area]]
    table = np.zeros((len(counts.image_ids), len(counts.category_ids)), dtype=np.int64)
    np.add.at(table, (place[counts.cells[kept, 1]], counts.cells[kept, 0]), 1)
    return table


def _class(counts: InstanceCounts, place: IntArray, k: int, area: int, key: str) -> _Class:
    cell = np.repeat(np.arange(len(counts.cells)), counts.cells[:, 2])
    start = np.cumsum(counts.cells[:, 2]) - counts.cells[:, 2]
    rank = np.arange(len(cell)) - start[cell]
    kept = np.flatnonzero((counts.cells[cell, 0] == k) & (rank < _MAX_DETECTIONS.get(key, 100)))
    best_first = kept[np.argsort(-counts.scores[kept], kind="stable")]
    levels = _THRESHOLDS.get(key, slice(None))
    ignored = counts.ignored[area, levels][:, best_first]
    hit = counts.matched[area, levels][:, best_first] & ~ignored
    return _Class(place[counts.cells[cell[best_first], 1]], hit, ~ignored)


def _mean_over_classes(
    classes: list[_Class],
    truth: FloatArray,
    measure: Callable[[_Class, FloatArray, FloatArray], FloatArray],
    weights: FloatArray,
) -> FloatArray:
    """Return the mean over the classes that have truth in the resample."""
    totals = weights @ truth
    values = np.full(totals.shape, np.nan)
    for k, each in enumerate(classes):
        for rows in _row_blocks(len(weights), len(each.columns)):
            values[rows, k] = measure(each, weights[rows], totals[rows, k])
    return mean_known(np.where(totals > 0, values, np.nan))


def _row_blocks(num_rows: int, width: int) -> Iterator[slice]:
    step = max(1, _CELLS // max(1, width))
    yield from (slice(start, start + step) for start in range(0, num_rows, step))


def _average_recall(each: _Class, weights: FloatArray, truths: FloatArray) -> FloatArray:
    hits = np.zeros(weights.shape[1])
    np.add.at(hits, each.columns, each.hit.sum(axis=0))
    return divide(weights @ hits / len(each.hit), truths)


def _average_precision(each: _Class, weights: FloatArray, truths: FloatArray) -> FloatArray:
    drawn = weights[:, each.columns]
    total = np.zeros(len(weights))
    counted, reached = None, np.empty(0)
    for hit, now_counted in zip(each.hit, each.counted, strict=True):
        if counted is None or not np.array_equal(counted, now_counted):
            counted = now_counted
            reached = np.cumsum(drawn * counted, axis=1)
        places = np.flatnonzero(hit)
        total += _area(np.cumsum(drawn[:, places], axis=1), reached[:, places], truths)
    return total / len(each.hit)


def _area(hits: FloatArray, reached: FloatArray, truths: FloatArray) -> FloatArray:
    """Return the mean precision at 101 recalls.

    Args:
        hits: True positives so far at each true positive, [R, P].
        reached: Counted detections so far there, [R, P].
        truths: [R], 0 where the class has none.
    """
    precision = hits / (reached + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(truths, 1)[:, None]
    nearest = np.rint(recall * 100).astype(np.int64)
    points = nearest + (recall >= _RECALL_POINTS[nearest])
    result: FloatArray = (np.diff(points, axis=1, prepend=0) * envelope).sum(axis=1) / 101
    return result
