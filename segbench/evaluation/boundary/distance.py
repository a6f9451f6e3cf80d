"""Boundary regions: the pixels of a region that lie within a distance of its contour.

The rule is that of Boundary IoU (Cheng et al., CVPR 2021, tool boundary-iou-api): the distance
is 2 % of the image diagonal, rounded, at least 1 pixel; a pixel belongs to the boundary of its
region where the square window of that many pixels to each side leaves the region or the image
(d erosions by 3x3 with the image surrounded by background).

The boundary of *every* region of an id map comes from one test, "is the window one label?": all
its rows and its middle column are without a change of label. Both are unions of changes over a
window, found by doubling, so the cost depends neither on the number of regions nor, but for a
logarithm, on the distance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core.types import BoolArray
from segbench.evaluation.boundary.bits import any_of_lines, pack, spread_up, unpack

DILATION_RATIO = 0.02
"""Distance as a part of the image diagonal."""


def boundary_distance(height: int, width: int, ratio: float = DILATION_RATIO) -> int:
    """Return the distance in pixels: a part of the diagonal, rounded half to even, at least 1."""
    return max(1, round(ratio * math.sqrt(height**2 + width**2)))


def boundary_map(ids: NDArray[Any], distance: int | None = None) -> BoolArray:
    """Return where the pixels of a map belong to the boundary of their region.

    Args:
        ids: Label or segment ids [H, W]; a region is all pixels of one id.
        distance: In pixels; None takes that of the image's size.

    Returns:
        Bool [H, W].
    """
    height, width = ids.shape
    reach = boundary_distance(height, width) if distance is None else distance
    near = np.ones((height, width), dtype=bool)
    if min(height, width) <= 2 * reach:
        return near
    # Bit p of a line is a change of label between pixels p - 1 and p; the window of pixel x
    # holds the changes x - d + 1 to x + d, whose union is spread to bit x + d.
    room = width + 2 * reach
    across = pack(_changes(ids), before=1, width=room)
    down = pack(ids[1:] != ids[:-1], before=reach, width=room)
    changed = any_of_lines(spread_up(across, 2 * reach), 2 * reach + 1)
    changed = changed | any_of_lines(down, 2 * reach)
    inner = near[reach : height - reach]
    inner[:] = unpack(changed, begin=reach, width=width)
    inner[:, :reach] = inner[:, width - reach :] = True
    return near


def _changes(ids: NDArray[Any]) -> BoolArray:
    """Return where a pixel differs from the one to its right, bool [H, W - 1]."""
    flat = np.ascontiguousarray(ids).reshape(-1)
    changes = np.empty(flat.shape, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=changes[:-1])
    return changes.reshape(ids.shape)[:, :-1]
