"""Boundaries of run-length masks, in loops compiled by numba.

No mask is unpacked: runs come in, runs come out. Runs are given by where they end, in pixels down
the columns, background first, as ``_rle_kernels.decode`` writes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import BoolArray, IntArray
from segbench.evaluation.instance.rle_kernels import decode, intersect


@compiled
def boundary_runs(
    ends: IntArray, runs: int, height: int, distance: int, inside: IntArray, out: IntArray
) -> int:
    """Write the runs of a mask's boundary.

    A pixel is inner where the mask's runs reach ``distance`` above and below it in its column and
    in as many columns to each side; the others are boundary.

    Args:
        ends: Where the mask's runs end.
        runs: Their number, at least 2.
        height: Of the image.
        distance: At least 1.
        inside: int32 [height] to work with: for how many columns on end each row has been at
            least ``distance`` inside.
        out: Room for ``boundary_room`` ends.

    Returns:
        The number of runs written.
    """
    first, last = ends[0] // height, (ends[runs - 1 - runs % 2] - 1) // height
    inside[:] = 0
    ahead = begin = written = 0
    for column in range(first, last + distance + 1):
        if column <= last:
            ahead = _add_column(ends, runs, ahead, column * height, height, distance, inside)
        else:
            inside[:] = 0
        if column - distance >= first:
            top = (column - distance) * height
            begin, written = _cut_column(
                ends, runs, begin, top, height, 2 * distance + 1, inside, out, written
            )
    return written


@compiled
def _add_column(
    ends: IntArray, runs: int, index: int, top: int, height: int, distance: int, inside: IntArray
) -> int:
    """Count a column for the rows that are deep in its runs; return the run it ends in."""
    row = 0
    while 2 * index + 1 < runs and ends[2 * index] < top + height:
        low = max(ends[2 * index] - top, 0) + distance
        high = min(ends[2 * index + 1] - top, height) - distance
        if low < high:
            inside[row:low] = 0
            for y in range(low, high):
                inside[y] += 1
            row = high
        if ends[2 * index + 1] > top + height:
            break
        index += 1
    inside[row:] = 0
    return index


@compiled
def _cut_column(
    ends: IntArray,
    runs: int,
    index: int,
    top: int,
    height: int,
    needed: int,
    inside: IntArray,
    out: IntArray,
    written: int,
) -> tuple[int, int]:
    """Write the runs of a column without their inner pixels; return its last run and the number."""
    while 2 * index + 1 < runs and ends[2 * index] < top + height:
        row = max(ends[2 * index] - top, 0)
        high = min(ends[2 * index + 1] - top, height)
        while row < high:
            start = row
            while row < high and inside[row] < needed:
                row += 1
            if row > start:
                out[written], out[written + 1] = top + start, top + row
                written += 2
            while row < high and inside[row] >= needed:
                row += 1
        if ends[2 * index + 1] > top + height:
            break
        index += 1
    return index, written


@compiled
def boundary_room(columns: int, height: int, distance: int, runs: int) -> int:
    """Return how many ends of runs a boundary can have at most.

    Inner pieces of a column lie at least 2 * distance + 1 apart, and every run of the mask and
    every inner piece adds one run to the boundary; runs are cut at the ends of columns.
    """
    return 2 * (columns * (height // (2 * distance + 2) + 2) + runs)


@compiled
def _runs_of(masks: Any, index: int, distance: int) -> IntArray:
    """Return the ends of the runs of the boundary of one of ``Masks``."""
    begin, stop, height = masks.begins[index], masks.stops[index], masks.heights[index]
    ends = np.empty(stop - begin, dtype=np.int64)
    runs = decode(masks.text, begin, stop, masks.pixels[index], ends)
    room = boundary_room(int(masks.boxes[index, 2]), height, distance, runs)
    out, inside = np.empty(room, dtype=np.int64), np.empty(height, dtype=np.int32)
    return out[: boundary_runs(ends, runs, height, distance, inside, out)]


@compiled
def _pixels(runs: IntArray) -> int:
    area = 0
    for i in range(1, runs.size, 2):
        area += runs[i] - runs[i - 1]
    return area


@compiled
def narrow_pairs(
    truths: Any, cell: IntArray, crowd: BoolArray, detections: Any, distances: IntArray, pairs: Any
) -> None:
    """Replace the mask IoU of pairs by their boundary IoU where that is smaller.

    Pairs with a crowd keep theirs. The boundaries of truths are kept until their cell ends.

    Args:
        truths: ``Masks``.
        cell: int64, of each truth.
        crowd: bool, of each truth.
        detections: ``Masks``.
        distances: int64, for the image of each truth.
        pairs: ``Pairs``, those of a cell and of a detection side by side; ``iou`` is changed.
    """
    place = np.full(cell.size, -1)
    kept: list[IntArray] = [np.empty(0, dtype=np.int64)]
    shape: IntArray = kept[0]
    for p in range(pairs.truth.size):
        d, g = pairs.detection[p], pairs.truth[p]
        if p == 0 or cell[g] != cell[pairs.truth[p - 1]]:
            kept = kept[:1]
        if p == 0 or d != pairs.detection[p - 1]:
            shape = kept[0]
        if crowd[g]:
            continue
        if shape.size == 0:
            shape = _runs_of(detections, d, distances[g])
        if place[g] < 0:
            place[g] = len(kept)
            kept.append(_runs_of(truths, g, distances[g]).copy())
        other = kept[place[g]]
        shared = intersect(shape, shape.size, other, other.size)
        narrow = shared / (_pixels(shape) + _pixels(other) - shared)
        pairs.iou[p] = min(pairs.iou[p], narrow)
