"""COCO's numbers of weighted images; axes as in ``segbench.evaluation.resampled``.

T IoU thresholds, D detections of one class best score first, P of them true positives.
A weight of w stands for w copies of an image whose equal scores lie side by side; COCOeval
breaks ties between copies by file order instead.

Precision between two true positives only falls, so its envelope needs the places of the true
positives alone: each adds (recall points it reaches) x (best precision from there on) / 101.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from segbench.core.types import BoolArray, FloatArray, IntArray
from segbench.evaluation.instance.average_precision import IOU_KEYS
from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.ratios import ClassMean, divide

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
DECAY = 0.5
"""AP of few images is too high by what falls with the root of their number: a best precision from a
recall on is a maximum of what scatters."""
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


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
    recall = key.startswith("ar")
    measure = _average_recall if recall else _average_precision
    values = partial(_class_values, classes, chosen, measure)
    decay = 1.0 if recall else DECAY
    return _truths(counts, place, 0), ClassMean(values, chosen > 0, decay)


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


def _class_values(
    classes: list[_Class],
    truth: FloatArray,
    measure: Callable[[_Class, FloatArray, FloatArray], FloatArray],
    weights: FloatArray,
) -> FloatArray:
    """Return the score of each class [R, C], NaN where it has no ground truth in the resample."""
    totals = weights @ truth
    values = np.full(totals.shape, np.nan)
    for k, each in enumerate(classes):
        values[:, k] = measure(each, weights, totals[:, k])
    known: FloatArray = np.where(totals > 0, values, np.nan)
    return known


def _average_recall(each: _Class, weights: FloatArray, truths: FloatArray) -> FloatArray:
    hits = np.zeros(weights.shape[1])
    np.add.at(hits, each.columns, each.hit.sum(axis=0))
    return divide(weights @ hits / len(each.hit), truths)


def _average_precision(each: _Class, weights: FloatArray, truths: FloatArray) -> FloatArray:
    from segbench.evaluation.instance import ap_kernels as _ap_kernels

    rows = [np.flatnonzero(row) for row in each.hit]
    bounds = np.cumsum([0, *map(len, rows)])
    as_before = np.append(False, (each.counted[1:] == each.counted[:-1]).all(axis=1))
    result = np.empty(len(weights))
    _ap_kernels.weighted_precision(
        each.columns, np.ascontiguousarray(each.counted), as_before, np.concatenate(rows), bounds,
        np.ascontiguousarray(weights), np.ascontiguousarray(truths), _RECALL_POINTS, result,
    )  # fmt: skip
    return result
