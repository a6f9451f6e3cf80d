"""Semantic segmentation: an exact confusion table per image, ratios only at the end.

C classes have train ids 0 .. C-1. A confusion matrix has C+1 rows (truth) and C+1 columns
(prediction); the last row is void truth (255), the last column predictions that are no
class of the table (255 or any id from C up).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import IGNORE_INDEX, ImageId, IntArray
from segbench.evaluation.counting.runs import count_byte_pairs, join_rows, sum_by_value
from segbench.evaluation.semantic.boundary import BoundaryTables, count_boundaries, join_tables


@dataclass(frozen=True, eq=False)
class SemanticCounts:
    """Non-zero confusion cells of each image.

    ``entries`` int64 [n, 4]: position in ``image_ids``, truth row, prediction column, pixels.
    ``boundary``: counts of boundaries, where they were asked for.
    """

    num_classes: int
    image_ids: tuple[ImageId, ...]
    entries: IntArray
    boundary: BoundaryTables | None = None

    @cached_property
    def confusion(self) -> IntArray:
        """Return the pooled int64 [C+1, C+1] matrix, rows truth, columns prediction."""
        size = self.num_classes + 1
        matrix = np.zeros((size, size), dtype=np.int64)
        np.add.at(matrix, (self.entries[:, 1], self.entries[:, 2]), self.entries[:, 3])
        return matrix

    def __add__(self, other: SemanticCounts) -> SemanticCounts:
        return merge([self, other])

    def subset(self, image_ids: Iterable[ImageId]) -> SemanticCounts:
        """Return the counts of some images, in the order they have here."""
        wanted = set(image_ids)
        kept = [i for i, image_id in enumerate(self.image_ids) if image_id in wanted]
        position = np.full(len(self.image_ids), -1, dtype=np.int64)
        position[kept] = np.arange(len(kept))
        entries = self.entries[position[self.entries[:, 0]] >= 0].copy()
        entries[:, 0] = position[entries[:, 0]]
        names = tuple(self.image_ids[i] for i in kept)
        tables = self.boundary.renumbered(position) if self.boundary else None
        return SemanticCounts(self.num_classes, names, entries, tables)

    def images(self) -> list[SemanticCounts]:
        """Return the counts of each image on its own, without boundaries."""
        order = np.argsort(self.entries[:, 0], kind="stable")
        bounds = np.searchsorted(self.entries[order, 0], np.arange(len(self.image_ids) + 1))
        return [
            SemanticCounts(self.num_classes, (image_id,), _at_zero(self.entries[order[a:b]]))
            for image_id, a, b in zip(self.image_ids, bounds[:-1], bounds[1:], strict=True)
        ]

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays for storage."""
        return {
            "num_classes": np.int64(self.num_classes),
            "image_ids": np.array(self.image_ids),
            "entries": self.entries,
            **(self.boundary.to_arrays() if self.boundary else {}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> SemanticCounts:
        """Return the counts that ``to_arrays`` took apart."""
        names = tuple(arrays["image_ids"].tolist())
        tables = BoundaryTables.from_arrays(arrays)
        return cls(int(arrays["num_classes"]), names, arrays["entries"], tables)


def _at_zero(entries: IntArray) -> IntArray:
    entries = entries.copy()
    entries[:, 0] = 0
    return entries


def merge(parts: Sequence[SemanticCounts]) -> SemanticCounts:
    """Join the counts of several images or shards of one label set."""
    if not parts:
        raise DataError("there are no images to score")
    if len({part.num_classes for part in parts}) != 1:
        found = sorted({part.num_classes for part in parts})
        raise DataError(f"counts to be added need one number of classes, found {found}")
    image_ids = tuple(image_id for part in parts for image_id in part.image_ids)
    entries = join_rows([p.entries for p in parts], [len(p.image_ids) for p in parts])
    tables = join_tables([p.boundary for p in parts], [len(p.image_ids) for p in parts])
    return SemanticCounts(parts[0].num_classes, image_ids, entries, tables)


def count(
    truth: IntArray,
    prediction: IntArray,
    *,
    num_classes: int,
    image_id: ImageId = 0,
    boundary: bool = False,
) -> SemanticCounts:
    """Count one image.

    Args:
        truth: Train ids [H, W], 0 .. C-1 or 255 for void.
        prediction: Train ids [H, W]; ids from C up are "no class".
        num_classes: C, from 1 to 255.
        image_id: How the image is called in the stored counts.
        boundary: Count boundaries too, for boundary IoU and boundary F.

    Raises:
        DataError: The sizes differ, or the ground truth holds an id that is no class and not 255.
    """
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise ConfigError(f"num_classes must be 1 to {IGNORE_INDEX}, found {num_classes}")
    table = count_ids(truth, prediction, image_id=image_id)
    if truth.dtype != np.uint8:
        wide = truth[(truth < 0) | (truth > IGNORE_INDEX)]
        _refuse_unknown_truth(np.unique(wide), num_classes, image_id)
    unused = table[num_classes:IGNORE_INDEX].sum(axis=1)
    _refuse_unknown_truth(np.flatnonzero(unused) + num_classes, num_classes, image_id)
    classes = np.minimum(np.arange(len(table)), num_classes)
    counts = from_table(
        table, truth=classes, prediction=classes, num_classes=num_classes, image_id=image_id
    )
    return with_boundaries(counts, truth, prediction) if boundary else counts


def with_boundaries(
    counts: SemanticCounts, truth: IntArray, prediction: IntArray
) -> SemanticCounts:
    """Return the counts of one image with those of its boundaries; maps as in ``count``."""
    tables = count_boundaries(truth, prediction, num_classes=counts.num_classes)
    return replace(counts, boundary=tables)


def count_ids(truth: IntArray, prediction: IntArray, *, image_id: ImageId = 0) -> IntArray:
    """Return the pixels of each pair of numbers, int64 [256, 256]: rows truth.

    Numbers that are no uint8 count as 255.

    Raises:
        DataError: The sizes differ.
    """
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise DataError(
            f"image {image_id}: expected a prediction of the truth's size {_size(truth)}, "
            f"found {_size(prediction)}",
            fix="write predictions at the original size of each image",
        )
    return count_byte_pairs(_as_uint8(truth), _as_uint8(prediction))


def from_table(
    table: IntArray,
    *,
    truth: IntArray,
    prediction: IntArray,
    num_classes: int,
    image_id: ImageId = 0,
) -> SemanticCounts:
    """Return the counts of an image from its ``count_ids``.

    Args:
        table: [256, 256] pixels of pairs of numbers.
        truth: [256] train id of each number in the ground truth, C for void.
        prediction: [256] the same for the prediction.
        num_classes: C.
        image_id: How the image is called in the stored counts.
    """
    size = num_classes + 1
    numbers = np.flatnonzero(table != 0)  # booleans are searched ten times as fast as integers
    cells = truth[numbers // len(table)] * size + prediction[numbers % len(table)]
    present, pixels = sum_by_value(cells, table.reshape(-1)[numbers])
    columns = [np.zeros_like(present), *np.divmod(present, size), pixels]
    entries = np.stack(columns, axis=1).astype(np.int64)
    return SemanticCounts(num_classes, (image_id,), entries)


def _size(array: IntArray) -> str:
    return "x".join(str(n) for n in array.shape) + " (height x width)"


def _as_uint8(ids: IntArray) -> IntArray:
    """Return ids as uint8; ids that do not fit (negative or above 254) become 255."""
    if ids.dtype == np.uint8:
        return ids
    return np.where((ids < 0) | (ids > IGNORE_INDEX), IGNORE_INDEX, ids).astype(np.uint8)


def _refuse_unknown_truth(unknown: IntArray, num_classes: int, image_id: ImageId) -> None:
    if len(unknown):
        raise DataError(
            f"truth of image {image_id}: expected train ids 0 to {num_classes - 1} or "
            f"{IGNORE_INDEX}, found {unknown[:3].tolist()}",
            fix="prepare the dataset again, or score with its own number of classes",
        )
