"""Predictions of a split as files in the public formats of docs/contracts.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from segbench.core.errors import DataError
from segbench.core.files import write_json
from segbench.core.types import (
    IGNORE_INDEX,
    VOID,
    BoolArray,
    CategoryTable,
    ImageRecord,
    Instances,
    IntArray,
    PanopticMap,
    Prediction,
)
from segbench.formats.label_maps import write_label_map, write_panoptic_ids


class PredictionWriter:
    """Writes what each prediction holds: label maps at once, the JSON files at the end.

    Args:
        out: Folder of the predictions of one split.
        table: The classes.
        panoptic_indices: Semantic maps hold panoptic indices, not train ids.
        score_threshold: Instances below it are left out.
    """

    def __init__(
        self,
        out: Path,
        table: CategoryTable,
        *,
        panoptic_indices: bool = False,
        score_threshold: float = 0.0,
    ) -> None:
        self.out, self.table = Path(out), table
        self.score_threshold = score_threshold
        self._train_ids = _train_ids(table) if panoptic_indices else None
        self._files: list[str] = []
        self._instances: list[dict[str, Any]] | None = None
        self._panoptic: list[dict[str, Any]] | None = None

    def add(self, record: ImageRecord, prediction: Prediction) -> None:
        """Write the label maps of one image and keep its rows of the JSON files.

        Raises:
            DataError: A map is not of the image's size or shows a segment it does not list.
        """
        if prediction.semantic is not None:
            self._add_semantic(record, prediction.semantic)
        if prediction.instances is not None:
            self._instances = self._instances or []
            self._instances += self._instance_rows(record, prediction.instances)
        if prediction.panoptic is not None:
            self._panoptic = self._panoptic or []
            self._panoptic.append(self._add_panoptic(record, prediction.panoptic))

    def close(self) -> list[str]:
        """Write the JSON files; return every written path relative to the folder."""
        if self._instances is not None:
            write_json(self.out / "instances.json", self._instances, indent=None)
            self._files.append("instances.json")
        if self._panoptic is not None:
            content = {"annotations": self._panoptic, "categories": self._categories()}
            write_json(self.out / "panoptic.json", content, indent=None)
            self._files.append("panoptic.json")
        return self._files

    def _add_semantic(self, record: ImageRecord, labels: IntArray) -> None:
        _check_size(record, labels.shape)
        name = f"semantic/{record.stem}.png"
        write_label_map(
            self.out / name, labels if self._train_ids is None else self._train_ids[labels]
        )
        self._files.append(name)

    def _instance_rows(self, record: ImageRecord, found: Instances) -> list[dict[str, Any]]:
        _check_size(record, found.masks.shape[1:])
        things = self.table.thing_train_ids
        scores = np.ones(len(found)) if found.scores is None else found.scores
        return [
            {
                "image_id": record.image_id,
                "category_id": self.table.category_ids[things[int(label) - 1]],
                "segmentation": encode_mask(mask),
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for mask, label, (x1, y1, x2, y2), score in zip(
                found.masks, found.labels, found.boxes, scores, strict=True
            )
            if score >= self.score_threshold and mask.any()
        ]

    def _add_panoptic(self, record: ImageRecord, panoptic: PanopticMap) -> dict[str, Any]:
        _check_size(record, panoptic.ids.shape)
        name = f"{record.stem}.png"
        segments = self._segment_rows(record, panoptic)
        write_panoptic_ids(self.out / "panoptic" / name, panoptic.ids)
        self._files.append(f"panoptic/{name}")
        return {"image_id": record.image_id, "file_name": name, "segments_info": segments}

    def _segment_rows(self, record: ImageRecord, panoptic: PanopticMap) -> list[dict[str, Any]]:
        """Describe the segments that have pixels; areas and boxes are those of the map."""
        labels = {segment.id: segment.label for segment in panoptic.segments}
        ids, inverse, areas = np.unique(panoptic.ids, return_inverse=True, return_counts=True)
        unknown = [int(i) for i in ids if i != VOID and int(i) not in labels]
        if unknown:
            raise DataError(
                f"image {record.image_id}: the panoptic map shows segments {unknown[:3]} that "
                "the model does not list"
            )
        places = ndimage.find_objects(inverse.reshape(panoptic.ids.shape) + 1)
        rows = []
        for segment_id, area, (rows_of, columns_of) in zip(ids, areas, places, strict=True):
            if segment_id == VOID:
                continue
            category = self.table.categories[self.table.panoptic_order[labels[int(segment_id)]]]
            x, y = columns_of.start, rows_of.start
            rows.append(
                {
                    "id": int(segment_id),
                    "category_id": category.id,
                    "area": int(area),
                    "bbox": [x, y, columns_of.stop - x, rows_of.stop - y],
                    "iscrowd": 0,
                    "isthing": int(category.isthing),
                }
            )
        return rows

    def _categories(self) -> list[dict[str, Any]]:
        return [
            {"id": c.id, "name": c.name, "isthing": int(c.isthing), "color": list(c.color)}
            for c in self.table.categories
        ]


def encode_mask(mask: BoolArray) -> dict[str, Any]:
    """Return the COCO run lengths of a bool mask [H, W], ``counts`` as text."""
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def _train_ids(table: CategoryTable) -> IntArray:
    """Return [65536]: panoptic index -> train id; everything else is no class."""
    numbers = np.full(1 << 16, IGNORE_INDEX, dtype=np.uint16)
    numbers[: len(table)] = table.panoptic_order
    return numbers


def _check_size(record: ImageRecord, shape: tuple[int, ...]) -> None:
    if shape != (record.height, record.width):
        raise DataError(
            f"image {record.image_id}: expected a prediction of {record.height}x{record.width} "
            f"pixels, found {'x'.join(map(str, shape))}"
        )
