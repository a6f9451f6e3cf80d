"""COCO's matching of detections with truths, for all images and categories at once.

pycocotools walks through every detection under every area range and threshold in Python.
Here only pairs that reach the lowest threshold are looked at, in compiled loops. A cell is one
category on one image. A areas, T thresholds, D detections, G truths, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pycocotools.cocoeval import Params

from segbench.core.types import BoolArray, FloatArray, IntArray
from segbench.evaluation.instance.shapes import Boxes, Masks

Entry = Mapping[str, Any]
CellIou = Callable[[slice, slice], FloatArray]
"""Truths and detections of a cell -> their IoUs [truths, detections]."""


@dataclass(frozen=True, eq=False)
class Items:
    """Truths or detections in cell order.

    ``cell`` int64 [n], ascending. ``shapes``: masks or boxes. ``area`` float64 [n].
    ``score`` float64 [n], 0 for truths. ``crowd`` bool [n], false for detections.
    """

    cell: IntArray
    shapes: Masks | Boxes
    area: FloatArray
    score: FloatArray
    crowd: BoolArray

    def take(self, order: IntArray) -> Items:
        """Return some of the items, in this order."""
        return Items(
            self.cell[order],
            self.shapes.take(order),
            self.area[order],
            self.score[order],
            self.crowd[order],
        )

    def by_cell(self) -> Items:
        """Sort by cell; inside a cell as they came."""
        return self.take(np.argsort(self.cell, kind="stable"))

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


class Pairs(NamedTuple):
    """Pairs of a cell that reach the lowest threshold, by detection, then truth.

    Indices into the items, int64 [P], and IoU float64 [P].
    """

    detection: IntArray
    truth: IntArray
    iou: FloatArray


def match_items(truths: Items, detections: Items, params: Params) -> Matches:
    """Match the detections, best first, as COCOeval does.

    Args:
        truths: In the order of the file inside a cell.
        detections: Best first inside a cell.
        params: Area ranges and IoU thresholds.
    """
    pairs = overlapping(truths, detections, float(params.iouThrs[0]))
    return match_pairs(truths, detections, pairs, params)


def match_pairs(truths: Items, detections: Items, pairs: Pairs, params: Params) -> Matches:
    """Match by IoUs that are given, whatever they are IoUs of; see ``match_items``."""
    from segbench.evaluation.instance import ap_kernels as _ap_kernels

    low, high = np.array(params.areaRng, dtype=np.float64).T[:, :, None]
    unwanted = truths.crowd | (truths.area < low) | (truths.area > high)
    outside = (detections.area < low) | (detections.area > high)
    shape = (len(low), len(params.iouThrs), len(detections.cell))
    matched, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    thresholds = np.minimum(params.iouThrs, 1 - 1e-10)
    _ap_kernels.match(pairs, truths.crowd, unwanted, outside, thresholds, matched, ignored)
    order = [np.lexsort((row, truths.cell)) for row in unwanted]
    truth_ignored = np.take_along_axis(unwanted, np.stack(order), axis=1)
    return Matches(matched, ignored, truth_ignored)


def cell_bounds(truths: Items, detections: Items) -> IntArray:
    """Return int64 [n, 4] of the cells with both: first and end of truths, of detections."""
    cells = np.intersect1d(truths.cell, detections.cell)
    sides = [np.searchsorted(side.cell, [cells, cells + 1]) for side in (truths, detections)]
    return np.ascontiguousarray(np.concatenate(sides).T, dtype=np.int64)


def overlapping(truths: Items, detections: Items, lowest: float) -> Pairs:
    """Return the pairs of masks or boxes whose IoU (IoA of crowds) is at least ``lowest``."""
    from segbench.evaluation.instance import rle_kernels as _rle_kernels

    bounds = cell_bounds(truths, detections)
    room = int(((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2])).sum())
    pairs = Pairs(np.zeros(room, dtype=np.int64), np.zeros(room, dtype=np.int64), np.zeros(room))
    one, other, crowd = truths.shapes, detections.shapes, truths.crowd
    if isinstance(one, Masks) and isinstance(other, Masks):
        number = _rle_kernels.mask_pairs(bounds, one, crowd, other, lowest, pairs)
    elif isinstance(one, Boxes) and isinstance(other, Boxes):
        number = _rle_kernels.box_pairs(bounds, one.values, crowd, other.values, lowest, pairs)
    else:
        raise TypeError("masks and boxes cannot be matched with each other")
    return Pairs(pairs.detection[:number], pairs.truth[:number], pairs.iou[:number])


def pairs_by(iou_of: CellIou, truths: Items, detections: Items, lowest: float) -> Pairs:
    """Return the pairs whose IoU by another measure is at least ``lowest``."""
    detection, truth = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    values: list[FloatArray] = [np.zeros(0)]
    for g, g_end, d, d_end in cell_bounds(truths, detections).tolist():
        iou = iou_of(slice(g, g_end), slice(d, d_end)).T
        rows, columns = np.nonzero(iou >= lowest)
        detection.append(rows + d)
        truth.append(columns + g)
        values.append(iou[rows, columns])
    return Pairs(np.concatenate(detection), np.concatenate(truth), np.concatenate(values))
