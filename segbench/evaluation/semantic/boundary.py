"""Boundary pixels of label maps, counted per image: what boundary IoU and boundary F need.

C classes have train ids 0 .. C-1, void is C. The counts keep void apart, so that each protocol's
void rule is applied when they are read, as with the confusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import IntArray
from segbench.evaluation.boundary.contours import count_contours
from segbench.evaluation.boundary.distance import boundary_map
from segbench.evaluation.counting.runs import count_byte_pairs

MAX_CLASSES = 253
"""A byte also holds void, inner and inner void."""


@dataclass(frozen=True, eq=False)
class BoundaryTables:
    """Counts of the boundaries of each image.

    ``regions`` int64 [n, 4]: image index, truth code, predicted code, pixels. A code is the class
    (C for void) of a pixel on the boundary of its class, C+1 for inner pixels of any class and
    C+2 for inner void. Pixels inner on both sides are left out, void counts as boundary too.
    ``contours`` int64 [m, 10]: image index and the columns of ``boundary_contours.COLUMNS``.
    """

    regions: IntArray
    contours: IntArray

    def renumbered(self, index: IntArray) -> BoundaryTables:
        """Return the counts with image i called ``index[i]``; images called -1 are left out."""
        return BoundaryTables(_renumber(self.regions, index), _renumber(self.contours, index))

    def to_arrays(self) -> dict[str, IntArray]:
        """Return plain arrays for storage."""
        return {"boundary_regions": self.regions, "boundary_contours": self.contours}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, IntArray]) -> BoundaryTables | None:
        """Return the tables that ``to_arrays`` took apart; None where there are none."""
        if "boundary_regions" not in arrays:
            return None
        return cls(arrays["boundary_regions"], arrays["boundary_contours"])


def _renumber(rows: IntArray, index: IntArray) -> IntArray:
    images = index[rows[:, 0]]
    kept = rows[images >= 0].copy()
    kept[:, 0] = images[images >= 0]
    return kept


def join_tables(
    parts: Sequence[BoundaryTables | None], numbers: Sequence[int]
) -> BoundaryTables | None:
    """Join the tables of shards that have that many images each; None where none has any.

    Raises:
        DataError: Some have boundaries and some have none.
    """
    known = [part for part in parts if part is not None]
    if not known:
        return None
    if len(known) < len(parts):
        raise DataError("counts with and without boundaries cannot be added")
    first = np.cumsum([0, *numbers[:-1]])
    moved = [p.renumbered(np.arange(n) + f) for p, n, f in zip(known, numbers, first, strict=True)]
    return BoundaryTables(
        np.concatenate([part.regions for part in moved]),
        np.concatenate([part.contours for part in moved]),
    )


def count_boundaries(truth: IntArray, prediction: IntArray, *, num_classes: int) -> BoundaryTables:
    """Count the boundaries of one image.

    Args:
        truth: Train ids [H, W], 0 .. C-1; every other number is void.
        prediction: Train ids [H, W] of the same size, the same.
        num_classes: C, from 1 to 253.

    Raises:
        ConfigError: There are more classes.
    """
    if num_classes > MAX_CLASSES:
        raise ConfigError(f"boundaries are counted of at most {MAX_CLASSES} classes")
    maps = [_void_last(labels, num_classes) for labels in (truth, prediction)]
    contours = count_contours(maps[0], maps[1], num_classes)
    image = np.zeros((len(contours), 1), dtype=np.int64)
    return BoundaryTables(
        _count_regions(maps[0], maps[1], num_classes), np.concatenate([image, contours], axis=1)
    )


def _void_last(labels: IntArray, num_classes: int) -> IntArray:
    if labels.dtype == np.uint8:
        return np.minimum(labels, np.uint8(num_classes))
    unknown = (labels < 0) | (labels > num_classes)
    return np.where(unknown, num_classes, labels).astype(np.uint8)


def _count_regions(truth: IntArray, prediction: IntArray, void: int) -> IntArray:
    table = count_byte_pairs(_codes(truth, void), _codes(prediction, void))
    table[void + 1 :, void + 1 :] = 0  # inner on both sides
    rows, columns = np.nonzero(table)
    return np.stack([np.zeros_like(rows), rows, columns, table[rows, columns]], axis=1)


def _codes(labels: IntArray, void: int) -> IntArray:
    codes: IntArray = np.add(labels == void, void + 1, dtype=np.uint8)
    np.copyto(codes, labels, where=boundary_map(labels))
    return codes
