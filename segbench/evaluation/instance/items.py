"""Checked COCO annotations as arrays in cell order (see ``_coco_matching``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from segbench.core.types import BoolArray, FloatArray, IntArray
from segbench.evaluation.instance.matching import Entry, Items
from segbench.evaluation.instance.shapes import Boxes, Masks, mask_text, read_boxes, read_masks

IouType = Literal["segm", "bbox", "boundary"]
"""What is matched: masks, boxes, or masks and their boundaries."""


class CellIndex:
    """Numbers cells by category, then image."""

    def __init__(self, image_ids: Iterable[Any], category_ids: Iterable[Any]) -> None:
        self.image_ids = np.unique(list(image_ids)).tolist()
        self.category_ids = np.unique(list(category_ids)).tolist()
        self.image = {image_id: i for i, image_id in enumerate(self.image_ids)}
        self.category = {category_id: k for k, category_id in enumerate(self.category_ids)}

    def of(self, image_ids: Sequence[Any], category_ids: Sequence[Any]) -> IntArray:
        """Return the cell of each entry; ``KeyError`` for an unknown id."""
        images = np.array([self.image[i] for i in image_ids], dtype=np.int64)
        categories = np.array([self.category[i] for i in category_ids], dtype=np.int64)
        return categories * len(self.image) + images


@dataclass(frozen=True, eq=False)
class Truths:
    """Annotations in the order of the file; ``masks`` None where only boxes are scored."""

    ids: IntArray
    cell: IntArray
    boxes: Boxes
    masks: Masks | None
    area: FloatArray
    crowd: BoolArray

    def items(self, iou_type: IouType) -> Items:
        shapes = self.boxes if iou_type == "bbox" else _given(self.masks)
        return Items(self.cell, shapes, self.area, np.zeros(len(self.cell)), self.crowd).by_cell()


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections in the order of the file; boxes are those of the masks where none is given."""

    cell: IntArray
    boxes: Boxes | None
    masks: Masks | None
    score: FloatArray

    def items(self, iou_type: IouType, limit: int) -> Items:
        """Return the best ones of each cell; masks have the area of the mask, not of a box."""
        shapes = self._boxes() if iou_type == "bbox" else _given(self.masks)
        # Where boxes come from masks, so do the areas: that is what pycocotools does.
        measured = self.boxes if iou_type == "bbox" and self.boxes is not None else self.masks
        crowd = np.zeros(len(self.cell), dtype=bool)
        area = (shapes if measured is None else measured).areas
        return Items(self.cell, shapes, area, self.score, crowd).best_first(limit)

    def _boxes(self) -> Boxes:
        return Boxes(_given(self.masks).boxes) if self.boxes is None else self.boxes


def _given(masks: Masks | None) -> Masks:
    if masks is None:
        raise TypeError("these files were read without their masks")
    return masks


@dataclass(frozen=True, eq=False)
class InstanceTable:
    """A ground truth and detections on it, as arrays."""

    place: CellIndex
    truths: Truths
    detections: Detections


def table_of(
    truth: Mapping[str, Any], detections: Sequence[Entry], iou_types: Sequence[IouType]
) -> InstanceTable:
    """Return what ``coco_files.load_instances`` has checked as arrays."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    place = CellIndex(sizes, (c["id"] for c in truth["categories"]))
    known = truth["annotations"]
    boxed = bool(detections) and "bbox" in detections[0]
    with_masks = "segm" in iou_types
    truths = Truths(
        np.array([a["id"] for a in known], dtype=np.int64),
        _cells(place, known),
        read_boxes(a["bbox"] for a in known),
        _masks(known, sizes) if with_masks else None,
        np.array([a["area"] for a in known], dtype=np.float64),
        np.array([a["iscrowd"] == 1 for a in known], dtype=bool),
    )
    found = Detections(
        _cells(place, detections),
        read_boxes(d["bbox"] for d in detections) if boxed and "bbox" in iou_types else None,
        _masks(detections, sizes) if with_masks or not boxed else None,
        np.array([d["score"] for d in detections], dtype=np.float64),
    )
    return InstanceTable(place, truths, found)


def _cells(place: CellIndex, entries: Sequence[Entry]) -> IntArray:
    return place.of([e["image_id"] for e in entries], [e["category_id"] for e in entries])


def _masks(entries: Sequence[Entry], sizes: Mapping[Any, tuple[int, int]]) -> Masks:
    size = np.array([sizes[e["image_id"]] for e in entries], dtype=np.int64).reshape(-1, 2)
    texts = [
        mask_text(e["segmentation"], *pair) for e, pair in zip(entries, size.tolist(), strict=True)
    ]
    return read_masks(texts, size[:, 0].copy(), size[:, 1].copy())
