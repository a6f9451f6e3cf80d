"""Checked COCO annotations as arrays in cell order (see ``_coco_matching``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.evaluation._coco_matching import Entry, Items
from segbench.evaluation.coco_files import IouType
from segbench.types import IntArray

_PORTION = 255


class CellIndex:
    """Numbers cells by category, then image."""

    def __init__(self, image_ids: Sequence[Any], category_ids: Sequence[Any]) -> None:
        self.image = {image_id: i for i, image_id in enumerate(image_ids)}
        self.category = {category_id: k for k, category_id in enumerate(category_ids)}

    def of(self, entries: Sequence[Entry]) -> IntArray:
        """Return the cell of each entry."""
        width = len(self.image)
        cells = [
            self.category[e["category_id"]] * width + self.image[e["image_id"]] for e in entries
        ]
        return np.array(cells, dtype=np.int64)


def truth_items(
    annotations: Sequence[Entry],
    place: CellIndex,
    iou_type: IouType,
    sizes: Mapping[Any, tuple[int, int]],
) -> Items:
    """Return annotations in cell order, as in the file inside a cell."""
    if iou_type == "segm":
        shapes = [_rle(a["segmentation"], *sizes[a["image_id"]]) for a in annotations]
    else:
        shapes = [a["bbox"] for a in annotations]
    items = Items(
        place.of(annotations),
        shapes,
        np.array([a["area"] for a in annotations], dtype=np.float64),
        np.zeros(len(annotations)),
        np.array([a["iscrowd"] == 1 for a in annotations], dtype=bool),
    )
    return items.take(np.argsort(items.cell, kind="stable"))


def _rle(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def _areas(masks: Sequence[Any]) -> list[int]:
    """Return the pixels of each RLE, in portions: pycocotools fails on more than 255 masks."""
    portions = (masks[i : i + _PORTION] for i in range(0, len(masks), _PORTION))
    return [area for portion in portions for area in coco_mask.area(portion).tolist()]


def detection_items(detections: Sequence[Entry], place: CellIndex, iou_type: IouType) -> Items:
    """Return detections as they come in the file; boxes of masks where none has a box."""
    shapes: Any
    if iou_type == "bbox" and detections and "bbox" in detections[0]:
        shapes = [d["bbox"] for d in detections]
        area = [box[2] * box[3] for box in shapes]
    else:
        shapes = [d["segmentation"] for d in detections]
        area = _areas(shapes)
        if iou_type == "bbox" and shapes:
            shapes = coco_mask.toBbox(shapes).tolist()
    return Items(
        place.of(detections),
        shapes,
        np.asarray(area, dtype=np.float64),
        np.array([d["score"] for d in detections], dtype=np.float64),
        np.zeros(len(detections), dtype=bool),
    )
