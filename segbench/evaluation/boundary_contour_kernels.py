"""Contours of label maps, in loops compiled by numba."""

from __future__ import annotations

import numpy as np

from segbench.jit import compiled
from segbench.types import BoolArray, IntArray


@compiled
def match_contours(
    contours: IntArray, others: IntArray, void: BoolArray, steps: IntArray, table: IntArray
) -> None:
    """Count contour pixels of each label, and those with one of the same label of others near.

    Args:
        contours: int16 [n], the label of contour pixels and -1 elsewhere, with a margin that no
            step leaves.
        others: The same of the other map.
        void: bool [n], where the other map is void.
        steps: int64, from a pixel to those near it, nearest first.
        table: int64 [labels, 2, 2] to add to: where the other map has a class, and where it is
            void, the pixels and the matched ones.
    """
    present = np.zeros(len(table), dtype=np.bool_)
    for i in range(others.size):
        if others[i] >= 0:
            present[others[i]] = True
    for i in range(contours.size):
        label = contours[i]
        if label < 0:
            continue
        group = int(void[i])
        table[label, group, 0] += 1
        if not present[label]:
            continue
        for step in steps:
            if others[i + step] == label:
                table[label, group, 1] += 1
                break
