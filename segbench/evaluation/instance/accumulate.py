"""COCO's accumulation over stored matches: precision, recall and scores of every cell at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pycocotools.cocoeval import Params

from segbench.core.types import FloatArray

if TYPE_CHECKING:
    from segbench.evaluation.instance.counts import InstanceCounts


@dataclass(frozen=True, eq=False)
class Accumulated:
    """The arrays COCOeval calls ``eval``: T thresholds, R recalls, K classes, A areas, M limits.

    ``precision``, ``scores`` float64 [T, R, K, A, M]. ``recall`` float64 [T, K, A, M]. -1 where
    a class has no ground truth.
    """

    precision: FloatArray
    recall: FloatArray
    scores: FloatArray


def accumulate(counts: InstanceCounts, *, every_limit: bool = True) -> Accumulated:
    """Return what pycocotools accumulates from the same matches, equal to the last bit.

    Args:
        counts: Stored matches.
        every_limit: Give precision and scores of 1, 10 and 100 detections an image and class;
            else of 100 only (M = 1), which the 12 numbers need.
    """
    from segbench.evaluation.instance import ap_kernels as _ap_kernels

    params = Params(iouType="segm")
    limits = np.array(params.maxDets, dtype=np.int64)
    classes, areas = len(counts.category_ids), len(params.areaRng)
    detections, truths = counts.cells[:, 2], counts.cells[:, 3]
    kind = np.repeat(counts.cells[:, 0], detections)
    starts = np.cumsum(detections) - detections
    rank = np.arange(len(kind)) - np.repeat(starts, detections)
    order = np.lexsort((-counts.scores, kind))
    wanted = np.zeros((classes, areas), dtype=np.int64)
    np.add.at(wanted, np.repeat(counts.cells[:, 0], truths), ~counts.truth_ignored.T)
    shape = (len(params.iouThrs), classes, areas, len(limits))
    curve = (shape[0], len(params.recThrs), classes, areas, len(limits) if every_limit else 1)
    found = Accumulated(np.full(curve, -1.0), np.full(shape, -1.0), np.full(curve, -1.0))
    bounds = np.searchsorted(kind[order], np.arange(classes + 1))
    matches = (np.ascontiguousarray(counts.matched), np.ascontiguousarray(counts.ignored))
    _ap_kernels.accumulate(
        order, bounds, rank, counts.scores, *matches, wanted, limits, params.recThrs,
        found.precision, found.recall, found.scores,
    )  # fmt: skip
    return found
