"""Contours of label maps and how much of them lies within a tolerance of each other.

The boundary F measure (BF) of Csurka et al., "What is a good evaluation measure for semantic
segmentation?", BMVC 2013, with its tolerance of 0.75 % of the image diagonal: per image and
class, precision is the part of the predicted contour within the tolerance of the true contour of
the class, recall the part of the true contour within it of the predicted one, F their harmonic
mean. Here the contour of a class is its pixels with a 4-neighbour of another label (the edge of
the image is no contour), distances are Euclidean between pixel centres, and a contour pixel that
lies on void of the other map may be matched though a protocol may not count it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segbench.evaluation.boundary_bits import WORD, Bits, pack, spread_both
from segbench.types import BoolArray, IntArray

TOLERANCE_RATIO = 0.0075
"""Distance up to which contours match, as a part of the image diagonal."""
COLUMNS = 9
"""Class; true contour pixels and matched ones where the prediction has a class, and where it has
none; predicted contour pixels and matched ones where the truth has a class, and where not."""


def contour_tolerance(height: int, width: int) -> float:
    """Return the tolerance in pixels, not rounded."""
    return TOLERANCE_RATIO * math.sqrt(height**2 + width**2)


def contour_map(labels: IntArray) -> BoolArray:
    """Return where a pixel of [H, W] has a 4-neighbour of another label."""
    contour = np.zeros(labels.shape, dtype=bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    contour[:, 1:] |= across
    contour[:, :-1] |= across
    contour[1:] |= down
    contour[:-1] |= down
    return contour


@dataclass(frozen=True, eq=False)
class _Points:
    """Contour pixels of one class: rows, columns int64 [n]; ``labelled`` bool [n] by the other."""

    rows: IntArray
    columns: IntArray
    labelled: BoolArray

    def __len__(self) -> int:
        return len(self.rows)


def count_contours(truth: IntArray, prediction: IntArray, void: int) -> IntArray:
    """Count contour pixels of two label maps and those matched.

    Args:
        truth: Labels [H, W], 0 to ``void``.
        prediction: The same of the prediction.
        void: Number of void; its contour is counted like that of a class.

    Returns:
        Int64 [classes with a contour, 9], columns as in ``COLUMNS``.
    """
    reach = contour_tolerance(*truth.shape)
    true = dict(_by_label(truth, prediction != void))
    predicted = dict(_by_label(prediction, truth != void))
    nothing = _Points(*np.zeros((2, 0), dtype=np.int64), np.zeros(0, dtype=bool))
    rows = []
    for label in sorted(true.keys() | predicted.keys()):
        ours, theirs = true.get(label, nothing), predicted.get(label, nothing)
        rows.append([label, *_counted(ours, theirs, reach), *_counted(theirs, ours, reach)])
    return np.array(rows, dtype=np.int64).reshape(-1, COLUMNS)


def _by_label(labels: IntArray, labelled: BoolArray) -> Iterator[tuple[int, _Points]]:
    """Yield each label that has a contour, with its contour pixels."""
    places = np.flatnonzero(contour_map(labels))
    of_place = labels.reshape(-1)[places]
    order = np.argsort(of_place, kind="stable")
    places, of_place = places[order], of_place[order]
    bounds = np.flatnonzero(np.diff(of_place, prepend=-1, append=-1))
    rows, columns = np.divmod(places, labels.shape[1])
    counted = labelled.reshape(-1)[places]
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        cut = slice(begin, end)
        yield int(of_place[begin]), _Points(rows[cut], columns[cut], counted[cut])


def _counted(points: _Points, others: _Points, reach: float) -> list[int]:
    """Return pixels and matched ones where the other map has a class, and where it has none."""
    matched = _within(points, others, reach)
    groups = (points.labelled, ~points.labelled)
    return [int(np.count_nonzero(part)) for g in groups for part in (g, g & matched)]


def _within(points: _Points, others: _Points, reach: float) -> BoolArray:
    """Return which points have another one at a distance of at most ``reach``."""
    if not len(points) or not len(others):
        return np.zeros(len(points), dtype=bool)
    margin = math.floor(reach)
    top, left = int(others.rows.min()) - margin, int(others.columns.min()) - margin
    height = int(others.rows.max()) - top + margin + 1
    width = int(others.columns.max()) - left + margin + 1
    canvas = np.zeros((height, width), dtype=bool)
    canvas[others.rows - top, others.columns - left] = True
    reached = dilate_disk(pack(canvas), reach)
    rows, columns = points.rows - top, points.columns - left
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    found = np.zeros(len(points), dtype=bool)
    rows, columns = rows[inside], columns[inside]
    word = reached[rows, columns // WORD] >> (columns % WORD).astype(np.uint64)
    found[inside] = (word & np.uint64(1)).astype(bool)
    return found


def dilate_disk(bits: Bits, radius: float) -> Bits:
    """Return the pixels within a Euclidean distance of the set ones; the margin is the caller's."""
    height = len(bits)
    result = np.zeros_like(bits)
    spread, half = bits, 0
    for dy in range(min(math.floor(radius), height - 1), -1, -1):
        wanted = math.floor(math.sqrt(radius**2 - dy**2))
        spread, half = spread_both(spread, wanted, done=half), wanted
        result[dy:] |= spread[: height - dy]
        result[: height - dy] |= spread[dy:]
    return result
