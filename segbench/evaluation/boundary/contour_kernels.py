"""Contours of label maps, in loops compiled by numba."""

from __future__ import annotations

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import BoolArray, IntArray


@compiled
def match_contours(
    contours: IntArray,
    others: IntArray,
    void: BoolArray,
    steps: IntArray,
    block: int,
    table: IntArray,
) -> None:
    """Count contour pixels of each label, and those with one of the same label of others near.

    Args:
        contours: int16 [H, W], the label of contour pixels and -1 elsewhere, with a margin that
            no step leaves.
        others: The same of the other map.
        void: bool [H, W], where the other map is void.
        steps: int64 [n], from a pixel of the flat map to those near it, nearest first.
        block: More pixels than the longest step.
        table: int64 [labels, 2, 2] to add to: where the other map has a class, and where it is
            void, the pixels and the matched ones.
    """
    reachable, width = _blocks(others, len(table), block), contours.shape[1]
    targets = others.reshape(-1)
    for y in range(contours.shape[0]):
        for x in range(width):
            label = contours[y, x]
            if label < 0:
                continue
            group = int(void[y, x])
            table[label, group, 0] += 1
            if not reachable[label, y // block + 1, x // block + 1]:
                continue
            place = y * width + x
            for step in steps:
                if targets[place + step] == label:
                    table[label, group, 1] += 1
                    break


@compiled
def _blocks(contours: IntArray, labels: int, block: int) -> BoolArray:
    """Return the blocks of pixels that hold some of a label or lie beside one that does.

    Bool [labels, rows + 2, columns + 2]: a frame of one block lies around the map.
    """
    height, width = contours.shape
    shape = (labels, height // block + 3, width // block + 3)
    own, near = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    for y in range(height):
        for x in range(width):
            label = contours[y, x]
            if label >= 0 and not own[label, y // block + 1, x // block + 1]:
                row, column = y // block, x // block
                own[label, row + 1, column + 1] = True
                near[label, row : row + 3, column : column + 3] = True
    return near
