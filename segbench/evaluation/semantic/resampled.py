"""Semantic scores of weighted images; axes as in ``segbench.evaluation.resampled``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from segbench.core.types import BoolArray, FloatArray, IntArray
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.ratios import ClassMean, Evaluate, divide, mean_known
from segbench.evaluation.semantic.counts import SemanticCounts

METRICS: Mapping[str, bool] = {
    **dict.fromkeys(("miou", "mean_dice", "pixel_accuracy", "mean_accuracy", "fwiou"), False),
    "official_score": False,
    **dict.fromkeys(("iou.", "dice.", "accuracy."), True),
}
"""Metric -> whether a class follows."""
_MEAN_OF = {"miou": "iou", "mean_dice": "dice", "mean_accuracy": "accuracy"}


def evaluator(
    counts: SemanticCounts, place: IntArray, protocol: Protocol, *, key: str, index: int | None
) -> tuple[IntArray, Callable[[FloatArray], FloatArray]]:
    """Return labelled pixels [N, C] and the score of weights [R, N] under a protocol."""
    tables = image_totals(counts, place, protocol)
    truth = _table(counts, place, 1, counts.entries[:, 1] < counts.num_classes)
    ratios = partial(class_ratios, tables, protocol=protocol)
    if index is not None:
        return truth, lambda weights: ratios(weights, kind=key)[0][:, index]
    if key in _MEAN_OF:
        return truth, class_mean(partial(ratios, kind=_MEAN_OF[key]), tables[1], protocol)
    return truth, partial(_overall, tables, ratios, key=key)


def of_class_totals(
    function: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
) -> Callable[[SemanticCounts, IntArray, Protocol], tuple[IntArray, Evaluate]]:
    """Return the ``statistic`` of a metric that is a function of the pixels of each class.

    Args:
        function: Right, true and predicted pixels [R, C] of R resamples to scores [R].
    """

    def statistic(
        counts: SemanticCounts, place: IntArray, protocol: Protocol
    ) -> tuple[IntArray, Evaluate]:
        tables = image_totals(counts, place, protocol)
        return tables[1].astype(np.int64), lambda weights: function(*(weights @ t for t in tables))

    return statistic


def class_mean(
    ratios: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    truth: FloatArray,
    protocol: Protocol,
) -> Callable[[FloatArray], FloatArray]:
    """Return the mean of class ratios, as one over classes where the protocol's is one.

    Args:
        ratios: Weights to what ``class_ratios`` returns.
        truth: [N, C], pixels of each image and class.
        protocol: Its averaging and absent-class rule.
    """
    rule = protocol.absent_class
    if protocol.averaging == "per_image" or rule == "undefined":
        return lambda weights: ratios(weights)[1]
    absent = rule in ("zero", "one")
    return ClassMean(lambda weights: ratios(weights)[0], truth > 0, absent=absent)


def image_totals(counts: SemanticCounts, place: IntArray, protocol: Protocol) -> FloatArray:
    """Return hits, truth and predicted pixels of each image and class, float64 [3, N, C].

    Float64 because products with weights are then fast, and exact below 2^53 pixels.
    """
    row, column = counts.entries[:, 1], counts.entries[:, 2]
    void = counts.num_classes + protocol.void_class
    in_truth, in_prediction = row < void, column < void
    both = in_truth & in_prediction
    truth = in_truth if protocol.void_prediction == "miss" else both
    predicted = in_prediction if protocol.void_truth == "false_positive" else both
    parts = [(1, both & (row == column)), (1, truth), (2, predicted)]
    tables = [_table(counts, place, axis, kept, protocol.void_class) for axis, kept in parts]
    return np.stack(tables).astype(np.float64)


def _table(
    counts: SemanticCounts, place: IntArray, axis: int, kept: BoolArray, void_class: bool = False
) -> IntArray:
    """Sum the kept cells of each image by ground truth (axis 1) or predicted (axis 2) class."""
    size = counts.num_classes + void_class
    entries = counts.entries[kept]
    table = np.zeros((len(counts.image_ids), size), dtype=np.int64)
    np.add.at(table, (place[entries[:, 0]], entries[:, axis]), entries[:, 3])
    return table


def class_ratios(
    tables: FloatArray, weights: FloatArray, *, kind: str, protocol: Protocol
) -> tuple[FloatArray, FloatArray]:
    """Return a ratio (``iou``, ``dice``, ``accuracy``) of each class [R, C] and its mean [R].

    ``tables`` are those of ``image_totals``; the protocol's averaging and absent-class rule hold.
    """
    chosen = _image_ratios if protocol.averaging == "per_image" else _pooled_ratios
    return chosen(tables, weights, kind=kind, protocol=protocol)


def _pooled_ratios(
    tables: FloatArray, weights: FloatArray, *, kind: str, protocol: Protocol
) -> tuple[FloatArray, FloatArray]:
    """Return one ratio of each class [R, C] and its mean [R] over classes."""
    hits, truth, predicted = (weights @ table for table in tables)
    rule = protocol.absent_class
    values, whole = _ratio_of(kind, hits, truth, predicted)
    if kind != "accuracy" and rule == "truth_only":
        values = np.where(truth == 0, np.nan, values)
    elif kind != "accuracy" and rule in ("zero", "one"):
        values = np.where(whole == 0, float(rule == "one"), values)
    means = mean_known(values)
    if rule == "undefined":
        means = np.where(np.isnan(values).any(axis=1), np.nan, means)
    return values, means


def _image_ratios(
    tables: FloatArray, weights: FloatArray, *, kind: str, protocol: Protocol
) -> tuple[FloatArray, FloatArray]:
    """Return the means over images of the ratios of single images, and over all pairs."""
    values, _ = _ratio_of(kind, *tables)
    known = ~np.isnan(values)
    sums, numbers = weights @ np.where(known, values, 0.0), weights @ known.astype(np.float64)
    return divide(sums, numbers), divide(sums.sum(axis=1), numbers.sum(axis=1))


def _ratio_of(
    kind: str, hits: FloatArray, truth: FloatArray, predicted: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the quotients and their denominators."""
    if kind == "iou":
        whole = truth + predicted - hits
        return divide(hits, whole), whole
    if kind == "dice":
        whole = truth + predicted
        return divide(2 * hits, whole), whole
    return divide(hits, truth), truth


def _overall(
    tables: FloatArray,
    ratios: Callable[..., tuple[FloatArray, FloatArray]],
    weights: FloatArray,
    *,
    key: str,
) -> FloatArray:
    truth = weights @ tables[1]
    accuracy = divide((weights @ tables[0]).sum(axis=1), truth.sum(axis=1))
    if key == "pixel_accuracy":
        return accuracy
    classes, mean = ratios(weights, kind="iou")
    if key == "official_score":
        return (accuracy + mean) / 2
    return divide((truth * np.nan_to_num(classes)).sum(axis=1), truth.sum(axis=1))
