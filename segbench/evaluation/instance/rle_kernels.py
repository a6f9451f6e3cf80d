"""COCO's compressed run lengths: checked, measured and intersected without making masks.

Masks are texts one after the other in one buffer: a JSON string each, quotes included and a
backslash doubled, as it stands in a file. A number is groups of 5 bits, lowest first, plus 48;
bit 5 says that more follow, bit 4 of the last group is the sign. From the fourth number on,
each is the change to the run two before. Runs go down the columns, background first.

Numbers equal pycocotools to the last bit: pixels are counted in integers, divided once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import BoolArray, FloatArray, IntArray

BROKEN = -1
"""Returned instead of a number of runs."""
_ZERO = 48
_BACKSLASH = 92 - _ZERO


@compiled
def decode(text: IntArray, begin: int, end: int, pixels: int, ends: IntArray) -> int:
    """Write where each run ends, in pixels from the first one.

    Args:
        text: uint8 buffer.
        begin: Place of the opening quote.
        end: Place behind the closing quote.
        pixels: Of the image, which the runs must fill.
        ends: int64, room for as many runs as the text has bytes.

    Returns:
        The number of runs, or ``BROKEN``: a character that is none of the code, a number that
        is cut short or too large, a negative run, or runs that do not fill the image.
    """
    place, last = begin + 1, end - 1
    runs = total = before = before_that = 0
    while place < last:
        code = int(text[place]) - _ZERO
        place += 1
        value = code & 31
        shift = 5
        if code == _BACKSLASH:
            if place >= last or text[place] != _BACKSLASH + _ZERO:
                return BROKEN
            place += 1
        while code & 32:
            if code < 0 or code > 63 or place >= last or shift > 30:
                return BROKEN
            code = int(text[place]) - _ZERO
            place += 1
            value |= (code & 31) << shift
            shift += 5
            if code == _BACKSLASH:
                if place >= last or text[place] != _BACKSLASH + _ZERO:
                    return BROKEN
                place += 1
        if code < 0 or code > 63:
            return BROKEN
        if code & 16:
            value -= 1 << shift
        run = value + before_that if runs > 2 else value
        before_that, before = before, run
        total += run
        if run < 0 or total > pixels:
            return BROKEN
        ends[runs] = total
        runs += 1
    return runs if total == pixels and pixels > 0 else BROKEN


@compiled
def measure(
    text: IntArray,
    begins: IntArray,
    stops: IntArray,
    heights: IntArray,
    widths: IntArray,
    areas: FloatArray,
    boxes: FloatArray,
) -> int:
    """Check every mask; write its pixels and its box as pycocotools' ``toBbox`` gives it.

    Args:
        text: uint8 buffer.
        begins: int64 [n], where each text begins.
        stops: int64 [n], where it ends.
        heights: int64 [n].
        widths: int64 [n].
        areas: float64 [n] to fill.
        boxes: float64 [n, 4] to fill: x, y, width, height.

    Returns:
        The index of the first broken mask, -1 where none is.
    """
    longest = 1
    for i in range(heights.size):
        longest = max(longest, stops[i] - begins[i])
    ends = np.empty(longest, dtype=np.int64)
    for i in range(heights.size):
        height, width = heights[i], widths[i]
        runs = decode(text, begins[i], stops[i], height * width, ends)
        if runs < 0:
            return i
        areas[i] = _measure_one(ends, runs, height, boxes[i])
    return -1


@compiled
def _measure_one(ends: IntArray, runs: int, height: int, box: FloatArray) -> int:
    """Write the box of a mask; return its pixels."""
    area = left = top = right = bottom = 0
    start = column = 0  # the first pixel of the column a run begins in
    for j in range(1, runs, 2):
        first, last = ends[j - 1], ends[j] - 1
        area += last - first + 1
        if first - start > 8 * height:
            column = first // height
            start = column * height
        while first - start >= height:
            start += height
            column += 1
        row, end_row = first - start, last - start
        if j == 1:
            left, top, bottom = column, row, row
            right = column
        if end_row >= height:  # the run goes on in the next column, from its top
            end_column = column + end_row // height
            right = max(right, end_column)
            top, bottom = 0, height - 1
        else:
            right = max(right, column)
            top, bottom = min(top, row, end_row), max(bottom, row, end_row)
    if runs > 1:
        box[0], box[1] = left, top
        box[2], box[3] = right - left + 1, bottom - top + 1
    return area


@compiled
def intersect(one: IntArray, runs: int, other: IntArray, other_runs: int) -> int:
    """Return the pixels two masks share, from the ends of their runs."""
    shared = 0
    i = j = 1
    while i < runs and j < other_runs:
        begin = max(one[i - 1], other[j - 1])
        end = min(one[i], other[j])
        if end > begin:
            shared += end - begin
        if one[i] < other[j]:
            i += 2
        else:
            j += 2
    return shared


@compiled
def mask_pairs(
    bounds: IntArray, truths: Any, crowd: BoolArray, detections: Any, lowest: float, pairs: Any
) -> int:
    """Write the pairs of masks whose IoU is at least ``lowest`` (with crowds: IoA).

    Args:
        bounds: int64 [cells, 4]: first and end of the truths, first and end of the detections.
        truths: Their ``Masks``, in cell order.
        crowd: bool [truths].
        detections: Their ``Masks``, in cell order.
        lowest: Pairs below it are left out; above 0.
        pairs: ``Pairs`` to fill, with room for every pair of a cell.

    Returns:
        The number of pairs.
    """
    one, other = _scratch(bounds, truths, 0), _scratch(bounds, detections, 2)
    number = 0
    for cell in range(bounds.shape[0]):
        first, last, begin, end = bounds[cell]
        places = _decode_all(truths, first, last, one)
        for d in range(begin, end):
            runs = BROKEN
            for g in range(first, last):
                if not _meet(detections.boxes[d], truths.boxes[g]):
                    continue
                if runs < 0:
                    place, stop = detections.begins[d], detections.stops[d]
                    runs = decode(detections.text, place, stop, truths.pixels[g], other)
                left, right = places[g - first], places[g - first + 1]
                shared = intersect(other, runs, one[left:right], right - left)
                whole = detections.areas[d]
                if not crowd[g]:
                    whole += truths.areas[g] - shared
                if shared and shared / whole >= lowest:
                    pairs.detection[number], pairs.truth[number] = d, g
                    pairs.iou[number] = shared / whole
                    number += 1
    return number


@compiled
def _scratch(bounds: IntArray, masks: Any, column: int) -> IntArray:
    """Return room for the runs of all masks of any cell."""
    most = 1
    for cell in range(bounds.shape[0]):
        room = 0
        for i in range(bounds[cell, column], bounds[cell, column + 1]):
            room += masks.stops[i] - masks.begins[i]
        most = max(most, room)
    return np.empty(most, dtype=np.int64)


@compiled
def _decode_all(masks: Any, first: int, last: int, ends: IntArray) -> IntArray:
    """Decode the masks of a cell one after the other; return where each begins in ``ends``."""
    places = np.zeros(last - first + 1, dtype=np.int64)
    for i in range(first, last):
        place = places[i - first]
        room = ends[place:]
        runs = decode(masks.text, masks.begins[i], masks.stops[i], masks.pixels[i], room)
        places[i - first + 1] = place + runs
    return places


@compiled
def _meet(one: FloatArray, other: FloatArray) -> bool:
    for side in range(2):
        if one[side] >= other[side] + other[side + 2] or other[side] >= one[side] + one[side + 2]:
            return False
    return True


@compiled
def box_pairs(
    bounds: IntArray,
    truths: FloatArray,
    crowd: BoolArray,
    detections: FloatArray,
    lowest: float,
    pairs: Any,
) -> int:
    """Write the pairs of boxes [n, 4] whose IoU is at least ``lowest``; see ``mask_pairs``."""
    number = 0
    for cell in range(bounds.shape[0]):
        first, last, begin, end = bounds[cell]
        for d in range(begin, end):
            for g in range(first, last):
                one, other = detections[d], truths[g]
                width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
                height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
                if width <= 0 or height <= 0:
                    continue
                shared = width * height
                area = one[2] * one[3]
                whole = area if crowd[g] else area + other[2] * other[3] - shared
                if whole > 0 and shared / whole >= lowest:
                    pairs.detection[number], pairs.truth[number] = d, g
                    pairs.iou[number] = shared / whole
                    number += 1
    return number
