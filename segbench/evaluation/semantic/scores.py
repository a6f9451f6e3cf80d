"""Semantic scores from counted pixels, under any protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import FloatArray, ImageId, IntArray
from segbench.evaluation.protocol import Protocol, get_protocol

if TYPE_CHECKING:
    from segbench.evaluation.semantic.counts import SemanticCounts

Values = Sequence[float | None]


@dataclass(frozen=True)
class Totals:
    """Pixels [C] of each class under a protocol's void rules."""

    hits: IntArray
    truth: IntArray
    predicted: IntArray

    @property
    def union(self) -> IntArray:
        total: IntArray = self.truth + self.predicted - self.hits
        return total


def totals_of(confusion: IntArray, protocol: Protocol) -> Totals:
    """Return the pixels of each class.

    Args:
        confusion: [C+1, C+1] with void last; with ``void_class`` the result has C+1 classes.
        protocol: Its void rules decide.
    """
    if protocol.void_class:
        confusion = np.pad(confusion, (0, 1))
    labelled = confusion[:-1, :-1]
    truth = labelled.sum(axis=1)
    predicted = labelled.sum(axis=0)
    if protocol.void_prediction == "miss":
        truth = truth + confusion[:-1, -1]
    if protocol.void_truth == "false_positive":
        predicted = predicted + confusion[-1, :-1]
    return Totals(np.diagonal(labelled), truth, predicted)


def scores(counts: SemanticCounts, protocol: Protocol) -> dict[str, Any]:
    """Turn counts into scores.

    Returns:
        ``miou``, ``mean_dice``, ``pixel_accuracy``, ``mean_accuracy``, ``fwiou``: fractions,
        None without a value; ``per_class``: a dict a class with ``iou``, ``dice``,
        ``accuracy`` and ``pixels`` (labelled pixels of the ground truth). Where the protocol has
        them, ``official_score``, ``category_miou`` and ``category_iou_<name>``.

    Raises:
        ConfigError: The protocol is for another task or number of classes.
        DataError: The protocol refuses void predictions and there are some.
    """
    _check(counts, protocol)
    totals = totals_of(counts.confusion, protocol)
    if protocol.averaging == "per_image":
        result = _per_image(counts, totals, protocol)
    else:
        result = _pooled(totals, protocol)
    if protocol.official_score:
        parts = (result["pixel_accuracy"], result["miou"])
        result["official_score"] = None if None in parts else sum(parts) / 2
    return result | _categories(counts.confusion, protocol)


def _check(counts: SemanticCounts, protocol: Protocol) -> None:
    if protocol.task != "semantic":
        raise ConfigError(f"protocol '{protocol.id}' scores {protocol.task}, not semantic")
    if protocol.num_classes not in (None, counts.num_classes):
        raise ConfigError(
            f"protocol '{protocol.id}' has {protocol.num_classes} classes, "
            f"the counts have {counts.num_classes}",
            fix="choose the protocol of this label set, or semantic-pooled",
        )
    void = int(counts.confusion[:-1, -1].sum())
    if protocol.void_prediction == "refused" and void:
        raise DataError(
            f"protocol '{protocol.id}' takes no void predictions; {void} labelled pixels are "
            "predicted as void or as no class",
            fix="predict a class for every pixel, or score under a protocol that counts misses",
        )


def _pooled(totals: Totals, protocol: Protocol) -> dict[str, Any]:
    absent = protocol.absent_class
    iou = _optional(_overlap(totals.hits, totals.union, totals, absent))
    dice = _optional(_overlap(2 * totals.hits, totals.truth + totals.predicted, totals, absent))
    accuracy = _optional(_ratio(totals.hits, totals.truth))
    return _summary(totals, iou, dice, accuracy, [_mean(v, absent) for v in (iou, dice, accuracy)])


def _per_image(counts: SemanticCounts, pooled: Totals, protocol: Protocol) -> dict[str, Any]:
    """Average ratios of single images: per class, and over all (image, class) pairs."""
    images = [totals_of(image.confusion, protocol) for image in counts.images()]
    tables = (
        np.stack([_ratio(t.hits, t.union) for t in images]),
        np.stack([_ratio(2 * t.hits, t.truth + t.predicted) for t in images]),
        np.stack([_ratio(t.hits, t.truth) for t in images]),
    )
    columns = [[_mean(_optional(column)) for column in table.T] for table in tables]
    means = [_mean(_optional(table.ravel())) for table in tables]
    return _summary(pooled, columns[0], columns[1], columns[2], means)


def _summary(
    totals: Totals, iou: Values, dice: Values, accuracy: Values, means: Values
) -> dict[str, Any]:
    labelled = int(totals.truth.sum())
    weighted = [n * (v or 0.0) for n, v in zip(totals.truth.tolist(), iou, strict=True)]
    return {
        "miou": means[0],
        "mean_dice": means[1],
        "pixel_accuracy": int(totals.hits.sum()) / labelled if labelled else None,
        "mean_accuracy": means[2],
        "fwiou": math.fsum(weighted) / labelled if labelled else None,
        "per_class": [
            {"iou": i, "dice": d, "accuracy": a, "pixels": n}
            for i, d, a, n in zip(iou, dice, accuracy, totals.truth.tolist(), strict=True)
        ],
    }


def _ratio(numerator: IntArray, denominator: IntArray) -> FloatArray:
    """Return the quotients; NaN where the denominator is 0."""
    out = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _overlap(numerator: IntArray, denominator: IntArray, totals: Totals, rule: str) -> FloatArray:
    """Return IoU or Dice per class with the absent-class rule applied."""
    values = _ratio(numerator, denominator)
    if rule == "truth_only":
        values[totals.truth == 0] = np.nan
    elif rule in ("zero", "one"):
        values[denominator == 0] = float(rule == "one")
    return values


def _optional(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _mean(values: Iterable[float | None], rule: str = "excluded") -> float | None:
    """Return the mean of the known values; none if one is missing under ``undefined``."""
    values = list(values)
    known = [value for value in values if value is not None]
    if not known or (rule == "undefined" and len(known) < len(values)):
        return None
    return math.fsum(known) / len(known)


def _categories(confusion: IntArray, protocol: Protocol) -> dict[str, float | None]:
    """Return the IoU of each category of classes and their mean."""
    found: dict[str, float | None] = {}
    labelled = confusion[:-1, :-1]
    for name, members in protocol.categories:
        hits = int(labelled[np.ix_(members, members)].sum())
        truth = int(confusion[list(members), :].sum())
        union = truth + int(labelled[:, list(members)].sum()) - hits
        found[f"category_iou_{name}"] = hits / union if union else None
    return {"category_miou": _mean(found.values()), **found} if found else {}


def image_scores(counts: SemanticCounts) -> dict[ImageId, dict[str, float | None]]:
    """Return ``miou`` and ``pixel_accuracy`` of each image; None where nothing is labelled.

    The mean is over the classes that the image's truth or prediction shows.
    """
    protocol = get_protocol("semantic-pooled")
    result: dict[ImageId, dict[str, float | None]] = {}
    for image in counts.images():
        values = scores(image, protocol)
        result[image.image_ids[0]] = {key: values[key] for key in ("miou", "pixel_accuracy")}
    return result
