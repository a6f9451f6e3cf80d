"""Matches of the objects of images, and their arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import BoolArray, FloatArray, ImageId, IntArray
from segbench.evaluation.instance.items import IouType


@dataclass(frozen=True, eq=False)
class InstanceCounts:
    """COCO matches of each image.

    A cell is one category on one image that has truths or detections; cells are ordered by
    class, then image. Detections [D] and truths [G] are concatenated in cell order, at most
    100 detections a cell, best score first. A areas (all, small, medium, large), T IoU
    thresholds (0.50 to 0.95).

    ``cells`` int64 [n, 4]: class index, image index, detections, truths. ``scores`` float64
    [D]. ``matched``, ``ignored`` bool [A, T, D]. ``truth_ignored`` bool [A, G].
    """

    iou_type: IouType
    category_ids: tuple[int, ...]
    image_ids: tuple[ImageId, ...]
    cells: IntArray
    scores: FloatArray
    matched: BoolArray
    ignored: BoolArray
    truth_ignored: BoolArray

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        return merge([self, other])

    def subset(self, image_ids: Iterable[ImageId]) -> InstanceCounts:
        """Return the counts of some images, in the order they have here."""
        wanted = set(image_ids)
        return self._take([i for i, image in enumerate(self.image_ids) if image in wanted])

    def _take(self, kept: Sequence[int]) -> InstanceCounts:
        """Return the counts of the images at these indices, in this order."""
        index = np.full(len(self.image_ids), -1, dtype=np.int64)
        index[kept] = np.arange(len(kept))
        images = index[self.cells[:, 1]]
        order = np.lexsort((images, self.cells[:, 0]))
        order = order[images[order] >= 0]
        cells = self.cells[order].copy()
        cells[:, 1] = images[order]
        detections = _ranges(self.cells[:, 2], order)
        return InstanceCounts(
            self.iou_type,
            self.category_ids,
            tuple(self.image_ids[i] for i in kept),
            cells,
            self.scores[detections],
            self.matched[:, :, detections],
            self.ignored[:, :, detections],
            self.truth_ignored[:, _ranges(self.cells[:, 3], order)],
        )

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays for storage."""
        return {field.name: np.array(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> InstanceCounts:
        """Return the counts that ``to_arrays`` took apart."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        for key in ("category_ids", "image_ids"):
            values[key] = tuple(values[key].tolist())
        return cls(**{**values, "iou_type": str(values["iou_type"])})


def _ranges(lengths: IntArray, chosen: IntArray) -> IntArray:
    """Return the indices of the chosen ones of many concatenated ranges."""
    starts = np.cumsum(lengths) - lengths
    picked = lengths[chosen]
    before = np.cumsum(picked) - picked
    shifts: IntArray = np.repeat(starts[chosen] - before, picked) + np.arange(picked.sum())
    return shifts


def merge(parts: Sequence[InstanceCounts]) -> InstanceCounts:
    """Join the counts of several images or shards; images end up sorted by id."""
    if len({(part.iou_type, part.category_ids) for part in parts}) != 1:
        raise DataError("instance counts to be added need one IoU type and the same categories")
    first = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    cells = [part.cells + np.array([0, n, 0, 0]) for part, n in zip(parts, first, strict=False)]
    joined = InstanceCounts(
        parts[0].iou_type,
        parts[0].category_ids,
        tuple(image_id for part in parts for image_id in part.image_ids),
        np.concatenate(cells),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.matched for part in parts], axis=2),
        np.concatenate([part.ignored for part in parts], axis=2),
        np.concatenate([part.truth_ignored for part in parts], axis=1),
    )
    return joined._take(np.argsort(np.array(joined.image_ids), kind="stable").tolist())
