"""COCO's matching of detections with truths, for all images and categories at once.

pycocotools walks through every detection under every area range and threshold in Python.
Here the IoUs are its own (``mask.iou``), and only pairs that reach the lowest threshold are
kept; the n-th best detections of all cells are then matched in one step. A cell is one
category on one image. A areas, T thresholds, D detections, G truths, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import Params

from segbench.types import BoolArray, FloatArray, IntArray

Entry = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Items:
    """Truths or detections in cell order.

    ``cell`` int64 [n], ascending. ``shapes``: an RLE or a box of each. ``area`` float64 [n].
    ``score`` float64 [n], 0 for truths. ``crowd`` bool [n], false for detections.
    """

    cell: IntArray
    shapes: Sequence[Any]
    area: FloatArray
    score: FloatArray
    crowd: BoolArray

    def take(self, order: IntArray) -> Items:
        """Return some of the items, in this order."""
        shapes = [self.shapes[i] for i in order.tolist()]
        return Items(
            self.cell[order], shapes, self.area[order], self.score[order], self.crowd[order]
        )

    def best_first(self, limit: int) -> Items:
        """Sort by cell, then falling score, equal ones as they came; ``limit`` a cell."""
        order = np.lexsort((-self.score, self.cell))
        return self.take(order[ranks(self.cell[order]) < limit])


def ranks(ascending: IntArray) -> IntArray:
    """Return the place of each entry among the entries of equal value."""
    places: IntArray = np.arange(len(ascending)) - np.searchsorted(ascending, ascending)
    return places


@dataclass(frozen=True, eq=False)
class Matches:
    """``matched``, ``ignored`` bool [A, T, D]; ``truth_ignored`` bool [A, G], false first."""

    matched: BoolArray
    ignored: BoolArray
    truth_ignored: BoolArray


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs that reach the lowest threshold: indices int64 [P] and IoU float64 [P]."""

    detection: IntArray
    truth: IntArray
    iou: FloatArray

    def take(self, chosen: Any) -> _Pairs:
        return _Pairs(self.detection[chosen], self.truth[chosen], self.iou[chosen])


def match_items(truths: Items, detections: Items, params: Params) -> Matches:
    """Match the detections, best first, as COCOeval does.

    Args:
        truths: In the order of the file inside a cell.
        detections: Best first inside a cell.
        params: Area ranges and IoU thresholds.
    """
    pairs = _overlapping(truths, detections, params.iouThrs[0])
    matched, ignored, truth_ignored = [], [], []
    for low, high in params.areaRng:
        unwanted = truths.crowd | (truths.area < low) | (truths.area > high)
        found = _match_area(pairs, truths, unwanted, len(detections.cell), params.iouThrs)
        outside = (detections.area < low) | (detections.area > high)
        hit = found >= 0
        padded = np.append(unwanted, False)
        matched.append(hit)
        ignored.append(np.where(hit, padded[found], outside))
        truth_ignored.append(unwanted[np.lexsort((unwanted, truths.cell))])
    return Matches(np.stack(matched), np.stack(ignored), np.stack(truth_ignored))


def _overlapping(truths: Items, detections: Items, lowest: float) -> _Pairs:
    cells = np.intersect1d(truths.cell, detections.cell)
    bounds = [np.searchsorted(side.cell, [cells, cells + 1]).T for side in (truths, detections)]
    parts = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for (g, g_end), (d, d_end) in zip(*(b.tolist() for b in bounds), strict=True):
        crowd = truths.crowd[g:g_end].astype(np.uint8)
        iou = coco_mask.iou(detections.shapes[d:d_end], truths.shapes[g:g_end], crowd)
        rows, columns = np.nonzero(iou >= lowest)
        parts.append((rows + d, columns + g, iou[rows, columns]))
    return _Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _match_area(
    pairs: _Pairs, truths: Items, unwanted: BoolArray, number: int, thresholds: FloatArray
) -> IntArray:
    """Return the truth of each detection at each threshold [T, D], -1 for none.

    A detection takes the free truth of highest IoU, the later one of equals, and one that is
    to be ignored only where no other reaches the threshold.
    """
    found = np.full((len(thresholds), number), -1, dtype=np.int64)
    order = np.lexsort((-pairs.truth, -pairs.iou, unwanted[pairs.truth], pairs.detection))
    ordered = pairs.take(order)
    reached = ordered.iou[None] >= np.minimum(thresholds, 1 - 1e-10)[:, None]
    taken = np.zeros((len(thresholds), len(truths.cell)), dtype=bool)
    active = np.unique(ordered.detection)
    if not len(active):
        return found
    rank = ranks(_cells_of(ordered, truths, active))
    rank_of_pair = rank[np.searchsorted(active, ordered.detection)]
    by_rank = np.argsort(rank_of_pair, kind="stable")
    bounds = np.searchsorted(rank_of_pair[by_rank], np.arange(rank.max() + 2))
    for begin, end in pairwise(bounds.tolist()):
        chosen = by_rank[begin:end]
        _match_step(ordered.take(chosen), reached[:, chosen], truths.crowd, taken, found)
    return found


def _cells_of(ordered: _Pairs, truths: Items, active: IntArray) -> IntArray:
    first = np.searchsorted(ordered.detection, active)
    cells: IntArray = truths.cell[ordered.truth[first]]
    return cells


def _match_step(
    pairs: _Pairs, reached: BoolArray, crowd: BoolArray, taken: BoolArray, found: IntArray
) -> None:
    """Match detections of different cells; ``taken`` and ``found`` are updated."""
    free = reached & (~taken[:, pairs.truth] | crowd[pairs.truth])
    size = free.shape[1]
    starts = np.flatnonzero(np.diff(pairs.detection, prepend=-1))
    best = np.minimum.reduceat(np.where(free, np.arange(size), size), starts, axis=1)
    threshold, group = np.nonzero(best < size)
    pair = best[threshold, group]
    taken[threshold, pairs.truth[pair]] = True
    found[threshold, pairs.detection[pair]] = pairs.truth[pair]
