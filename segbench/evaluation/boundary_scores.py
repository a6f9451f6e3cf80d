"""Boundary scores of counts that have boundaries, also of weighted images.

Semantic: boundary IoU pools boundary pixels over images as mIoU pools all pixels, under the same
void and absent-class rules. Boundary F is one number an image and class (``boundary_contours``),
averaged over the images where truth or prediction has a contour of the class, then over classes.
Axes of weights are as in ``segbench.evaluation.resampled``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from segbench.core.errors import ConfigError
from segbench.core.types import FloatArray, IntArray
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic.boundary import boundary_matches
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.ratios import divide, mean_known
from segbench.evaluation.semantic.boundary import BoundaryTables
from segbench.evaluation.semantic.counts import SemanticCounts
from segbench.evaluation.semantic.resampled import class_mean, class_ratios, image_totals

PREFIX = "boundary_"
_NOT_COUNTED, _FIX = "boundaries were not counted", "score again with --boundary"
METRICS: Mapping[str, bool] = {
    **dict.fromkeys(("boundary_miou", "boundary_f"), False),
    **dict.fromkeys(("boundary_iou.", "boundary_f."), True),
}
"""Semantic metric -> whether a class follows."""
Evaluate = Callable[[FloatArray], FloatArray]


def boundary_scores(counts: Any, protocol: Protocol) -> dict[str, Any]:
    """Return the scores that boundaries add, ``per_class`` among them; nothing without them.

    Semantic: ``boundary_miou`` and ``boundary_f``; rows ``boundary_iou`` and ``boundary_f``.
    Panoptic: ``boundary_pq``, ``boundary_sq``, ``boundary_rq``, of all, things and stuff; rows
    the same, and ``boundary_tp``, ``boundary_fp``, ``boundary_fn``.
    """
    if isinstance(counts, SemanticCounts) and counts.boundary is not None:
        return _semantic_scores(counts, protocol)
    if isinstance(counts, PanopticCounts) and has_boundaries(counts):
        found = panoptic.scores(boundary_view(counts), protocol)
        rows = [_prefixed(row) for row in found.pop("per_class")]
        qualities = {k: v for k, v in found.items() if k.partition("_")[0] != "n"}
        return {**_prefixed(qualities), "per_class": rows}
    return {}


def _prefixed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {PREFIX + key: value for key, value in values.items()}


def has_boundaries(counts: PanopticCounts) -> bool:
    """Return whether the boundaries of the matches were counted."""
    return bool(counts.matches.shape[1] > 6)


def boundary_view(counts: PanopticCounts) -> PanopticCounts:
    """Return the counts of Boundary PQ.

    Raises:
        ConfigError: Boundaries were not counted.
    """
    if not has_boundaries(counts):
        raise ConfigError(_NOT_COUNTED, fix=_FIX)
    matches, lost = boundary_matches(counts.matches)
    return replace(counts, matches=matches, errors=np.concatenate([counts.errors, lost]))


def part_of(parts: Mapping[str, Any], metric: str) -> tuple[Any, str]:
    """Return the counts a boundary metric is of, and its key there.

    Raises:
        ConfigError: Boundaries were not counted.
    """
    if "semantic" in parts:
        _tables(parts["semantic"])
        return parts["semantic"], metric
    if "panoptic" in parts:
        return boundary_view(parts["panoptic"]), metric.removeprefix(PREFIX)
    if "segm_boundary" not in parts:
        raise ConfigError(_NOT_COUNTED, fix=_FIX)
    return parts["segm_boundary"], metric.removeprefix(PREFIX)


def _semantic_scores(counts: SemanticCounts, protocol: Protocol) -> dict[str, Any]:
    place, once = np.arange(len(counts.image_ids)), np.ones((1, len(counts.image_ids)))
    names = {"boundary_miou": "boundary_iou", "boundary_f": "boundary_f"}
    result: dict[str, Any] = {}
    columns = {}
    for key, of_class in names.items():
        classes, mean = _ratios(counts, place, protocol, key)(once)
        result[key] = _optional(mean[0])
        columns[of_class] = [_optional(value) for value in classes[0]]
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return {**result, "per_class": rows}


def _optional(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def evaluator(
    counts: SemanticCounts, place: IntArray, protocol: Protocol, *, key: str, index: int | None
) -> tuple[IntArray, Evaluate]:
    """Return the true boundary pixels [N, C] and the score of weights [R, N].

    Args:
        counts: With boundaries.
        place: Column of each image in the weights.
        protocol: Its void, absent-class and averaging rules decide.
        key: A key of ``METRICS``, without the dot.
        index: The class, where one follows.
    """
    ratios = _ratios(counts, place, protocol, key)
    truth = _totals(counts, place, protocol)[1].astype(np.int64)
    if index is None:
        return truth, class_mean(ratios, truth, protocol)
    return truth, lambda weights: ratios(weights)[0][:, index]


def _ratios(
    counts: SemanticCounts, place: IntArray, protocol: Protocol, key: str
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """Return the function from weights to class values [R, C] and their mean [R]."""
    if key == "boundary_f":
        values = _image_f(counts, place, protocol)
        return lambda weights: _mean_f(values, weights, protocol)
    tables = _totals(counts, place, protocol)
    return lambda weights: class_ratios(tables, weights, kind="iou", protocol=protocol)


def _tables(counts: SemanticCounts) -> BoundaryTables:
    if counts.boundary is None:
        raise ConfigError(_NOT_COUNTED, fix=_FIX)
    return counts.boundary


def _totals(counts: SemanticCounts, place: IntArray, protocol: Protocol) -> FloatArray:
    """Return shared, true and predicted boundary pixels of each image and class [3, N, C].

    The regions are a confusion with one class more, inner pixels, which is left out at the end.
    """
    classes = counts.num_classes + protocol.void_class
    inner, void = classes, classes + 1
    code = np.arange(counts.num_classes + 3)
    code[counts.num_classes :] = (classes - 1, inner, inner) if protocol.void_class else (
        void, inner, void
    )  # fmt: skip
    entries = _tables(counts).regions.copy()
    entries[:, 1:3] = code[entries[:, 1:3]]
    folded = SemanticCounts(classes + 1, counts.image_ids, entries)
    return image_totals(folded, place, replace(protocol, void_class=False))[:, :, :classes]


def _image_f(counts: SemanticCounts, place: IntArray, protocol: Protocol) -> FloatArray:
    """Return F of each image and class [N, C]; NaN where there is no contour on either side."""
    rows = _tables(counts).contours
    with_void = np.array([protocol.void_prediction == "miss", protocol.void_truth != "ignored"])
    numbers = rows[:, 2:].reshape(-1, 2, 2, 2)  # side, other labelled or void, all and matched
    kept = numbers[:, :, 0] + numbers[:, :, 1] * (with_void | protocol.void_class)[:, None]
    parts = divide(kept[:, :, 1].astype(np.float64), kept[:, :, 0].astype(np.float64))
    recall, precision = np.nan_to_num(parts).T
    f = np.nan_to_num(divide(2 * precision * recall, precision + recall))
    f[kept[:, :, 0].sum(axis=1) == 0] = np.nan
    values = np.full((len(counts.image_ids), counts.num_classes + 1), np.nan)
    values[place[rows[:, 0]], rows[:, 1]] = f
    return values[:, : counts.num_classes + protocol.void_class]


def _mean_f(
    values: FloatArray, weights: FloatArray, protocol: Protocol
) -> tuple[FloatArray, FloatArray]:
    known = ~np.isnan(values)
    sums = weights @ np.where(known, values, 0.0)
    numbers = weights @ known.astype(np.float64)
    classes = divide(sums, numbers)
    if protocol.averaging == "per_image":
        return classes, divide(sums.sum(axis=1), numbers.sum(axis=1))
    return classes, mean_known(classes)
