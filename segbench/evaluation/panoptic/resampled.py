"""Panoptic quality of weighted images; axes as in ``segbench.evaluation.resampled``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from segbench.core.types import FloatArray, IntArray
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.ratios import ClassMean, Evaluate, divide

METRICS: Mapping[str, bool] = {
    **{key + group: False for key in ("pq", "sq", "rq") for group in ("", "_things", "_stuff")},
    **dict.fromkeys(("pq.", "sq.", "rq."), True),
}
"""Metric -> whether a class follows."""


def evaluator(
    counts: PanopticCounts, place: IntArray, *, key: str, index: int | None
) -> tuple[IntArray, Callable[[FloatArray], FloatArray]]:
    """Return true segments [N, C] without crowds, and the score of weights [R, N]."""
    sums = image_sums(counts, place)
    everything = np.ones(len(counts.category_ids), dtype=bool)
    groups = {"": everything, "_things": counts.isthing, "_stuff": ~counts.isthing}
    columns = np.flatnonzero(groups[key[2:]]) if index is None else np.array([index])
    chosen = sums[:, :, columns]

    def values(weights: FloatArray) -> FloatArray:
        iou, tp, fp, fn = (weights @ table for table in chosen)
        whole = tp + 0.5 * fp + 0.5 * fn
        if key.startswith("sq"):
            return np.where((tp == 0) & (whole > 0), 0.0, divide(iou, tp))
        return divide(tp if key.startswith("rq") else iou, whole)

    truth = (sums[1] + sums[3]).astype(np.int64)
    return truth, ClassMean(values, truth[:, columns] > 0)


def of_quality_sums(
    function: Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray],
) -> Callable[[PanopticCounts, IntArray, Protocol], tuple[IntArray, Evaluate]]:
    """Return the ``statistic`` of a metric that is a function of the matches of each class.

    Args:
        function: Sum of IoU, true positives, false positives and false negatives [R, C] of R
            resamples to scores [R].
    """

    def statistic(
        counts: PanopticCounts, place: IntArray, _: Protocol
    ) -> tuple[IntArray, Evaluate]:
        sums = image_sums(counts, place)
        truth = (sums[1] + sums[3]).astype(np.int64)
        return truth, lambda weights: function(*(weights @ table for table in sums))

    return statistic


def image_sums(counts: PanopticCounts, place: IntArray) -> FloatArray:
    """Return IoU sum, TP, FP, FN of each image and class, float64 [4, N, C]."""
    sums = np.zeros((4, len(counts.image_ids), len(counts.category_ids)))
    matches, errors = counts.matches, counts.errors
    with np.errstate(divide="ignore"):
        iou = matches[:, 4] / matches[:, 5]
    np.add.at(sums[0], (place[matches[:, 0]], matches[:, 1]), iou)
    np.add.at(sums[1], (place[matches[:, 0]], matches[:, 1]), 1)
    np.add.at(sums[2], (place[errors[:, 0]], errors[:, 1]), errors[:, 2])
    np.add.at(sums[3], (place[errors[:, 0]], errors[:, 1]), errors[:, 3])
    return sums
