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

import numpy as np

from segbench.core.types import BoolArray, IntArray

TOLERANCE_RATIO = 0.0075
"""Distance up to which contours match, as a part of the image diagonal."""
_BLOCK = 32
"""Side in pixels of the blocks in which the loop looks for a label before it searches."""
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


def count_contours(truth: IntArray, prediction: IntArray, void: int) -> IntArray:
    """Count contour pixels of two label maps and those matched.

    Args:
        truth: Labels [H, W], 0 to ``void``.
        prediction: The same of the prediction.
        void: Number of void; its contour is counted like that of a class.

    Returns:
        Int64 [labels with a contour, 9], columns as in ``COLUMNS``.
    """
    from segbench.evaluation.boundary import contour_kernels as boundary_contour_kernels

    reach = contour_tolerance(*truth.shape)
    margin = math.floor(reach)
    true, predicted = (_with_margin(labels, margin) for labels in (truth, prediction))
    voids = [np.pad(labels == void, margin) for labels in (truth, prediction)]
    table = np.zeros((2, void + 1, 2, 2), dtype=np.int64)
    how = (_steps(reach, true.shape[1]), max(margin + 1, _BLOCK))
    boundary_contour_kernels.match_contours(true, predicted, voids[1], *how, table[0])
    boundary_contour_kernels.match_contours(predicted, true, voids[0], *how, table[1])
    table = table.transpose(1, 0, 2, 3)
    labels = np.flatnonzero(table.any(axis=(1, 2, 3)))
    return np.concatenate([labels[:, None], table[labels].reshape(-1, COLUMNS - 1)], axis=1)


def _with_margin(labels: IntArray, margin: int) -> IntArray:
    """Return int16 labels of contour pixels, -1 elsewhere and for ``margin`` pixels around."""
    height, width = labels.shape
    padded = np.full((height + 2 * margin, width + 2 * margin), -1, dtype=np.int16)
    inner = padded[margin : margin + height, margin : margin + width]
    np.copyto(inner, labels, where=contour_map(labels))
    return padded


def _steps(reach: float, width: int) -> IntArray:
    """Return the steps in a flat map to all pixels within a distance, nearest first."""
    rows, columns = np.indices((2 * math.floor(reach) + 1,) * 2).reshape(2, -1) - math.floor(reach)
    squares = rows**2 + columns**2
    order = np.argsort(squares, kind="stable")
    order = order[squares[order] <= reach**2]
    steps: IntArray = (rows * width + columns)[order]
    return steps
