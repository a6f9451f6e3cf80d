"""Label maps of one task as picture layers: truth or predictions of a split, and errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.files import read_json
from segbench.core.types import IGNORE_INDEX, BoolArray, ImageRecord, IntArray
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from segbench.formats.manifest import FILES
from segbench.formats.prepared import PreparedDataset
from segbench.formats.samples import decode_mask
from segbench.report.paths import inside_file
from segbench.report.pictures import colors as overlay

SHOWN_SCORE = 0.5
"""Detections below this score are not drawn."""
ERROR_LEGEND: tuple[Mapping[str, Any], ...] = (
    {"color": overlay.CORRECT, "text": "right class"},
    {"color": overlay.WRONG, "text": "wrong class"},
    {"color": overlay.IGNORED, "text": "not scored"},
)


@dataclass(frozen=True)
class Layers:
    """Truth of a split (``predictions`` None) or the predictions of one run on it."""

    dataset: PreparedDataset
    split: str
    predictions: Path | None = None

    def write(self, record: ImageRecord, path: Path) -> bool:
        """Write the label map of an image as WebP with alpha; False when there is none."""
        if path.exists():
            return True
        picture = self.picture(record)
        if picture is not None:
            overlay.save_webp(path, picture)
        return picture is not None

    def write_error(self, record: ImageRecord, truth: Layers, path: Path) -> bool:
        """Write where the label map differs from the ground truth; False when one is missing."""
        if path.exists():
            return True
        expected, found = truth.labels(record), self.labels(record)
        if expected is None or found is None or expected.shape != found.shape:
            return False
        picture = overlay.error_rgba(expected, found)
        picture[(expected == self.background) & (found == self.background)] = 0
        overlay.save_webp(path, picture)
        return True

    @property
    def background(self) -> int:
        """Number of "no object" in ``labels``: one above the classes."""
        return len(self.dataset.table)

    def picture(self, record: ImageRecord) -> overlay.Rgba | None:
        """Return the label map in colours, uint8 [H, W, 4]; None when there is none."""
        raise NotImplementedError

    def labels(self, record: ImageRecord) -> IntArray | None:
        """Return train ids [H, W], 255 where nothing is scored; None without a label map."""
        raise NotImplementedError


class SemanticLayers(Layers):
    """8-bit PNGs of train ids."""

    def picture(self, record: ImageRecord) -> overlay.Rgba | None:
        labels = self.labels(record)
        table = self.dataset.table
        return None if labels is None else overlay.label_rgba(labels, table=table)

    def labels(self, record: ImageRecord) -> IntArray | None:
        path = record.semantic
        if self.predictions is not None:
            path = self.predictions / "semantic" / f"{record.stem}.png"
        if path is None or not path.is_file() or path.is_symlink():
            return None
        return read_label_map(path, size=(record.height, record.width))


class PanopticLayers(Layers):
    """COCO panoptic PNGs with the categories of their segments."""

    @cached_property
    def _annotations(self) -> dict[Any, Mapping[str, Any]]:
        path = self.dataset.panoptic_file(self.split)
        if self.predictions is not None:
            path = self.predictions / "panoptic.json"
        found = read_json(path)["annotations"] if path.is_file() else []
        return {annotation["image_id"]: annotation for annotation in found}

    def _map(self, record: ImageRecord) -> tuple[IntArray, dict[int, int]] | None:
        annotation = self._annotations.get(record.image_id)
        if annotation is None:
            return None
        folder = self.dataset.panoptic_folder(self.split)
        if self.predictions is not None:
            folder = self.predictions / "panoptic"
        path = inside_file(folder, annotation["file_name"])
        if path is None:
            return None
        table = self.dataset.table
        segments = {s["id"]: table.train_id(s["category_id"]) for s in annotation["segments_info"]}
        return read_panoptic_ids(path, size=(record.height, record.width)), segments

    def picture(self, record: ImageRecord) -> overlay.Rgba | None:
        found = self._map(record)
        return found and overlay.panoptic_rgba(*found, table=self.dataset.table)

    def labels(self, record: ImageRecord) -> IntArray | None:
        found = self._map(record)
        if found is None:
            return None
        ids, segments = found
        labels = np.full(ids.shape, IGNORE_INDEX, dtype=np.int64)
        for segment_id, train_id in segments.items():
            labels[ids == segment_id] = train_id
        return labels


class InstanceLayers(Layers):
    """COCO instances: annotations of the ground truth, scored results of a run."""

    @cached_property
    def _objects(self) -> dict[Any, list[Mapping[str, Any]]]:
        if self.predictions is None:
            path = self.dataset.instances_file(self.split)
            found = read_json(path)["annotations"] if path.is_file() else []
        else:
            path = self.predictions / "instances.json"
            found = read_json(path) if path.is_file() else []
        groups: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for item in found:
            if item.get("score", 1.0) >= SHOWN_SCORE and item.get("segmentation"):
                groups[item["image_id"]].append(item)
        return groups

    def _masks(self, record: ImageRecord) -> tuple[BoolArray, list[int]]:
        found = sorted(self._objects.get(record.image_id, []), key=lambda o: -o.get("score", 1.0))
        size = (record.height, record.width)
        masks = np.zeros((len(found), *size), dtype=bool)
        for mask, item in zip(masks, found, strict=True):
            mask[:] = decode_mask(item["segmentation"], *size)
        return masks, [self.dataset.table.train_id(item["category_id"]) for item in found]

    def picture(self, record: ImageRecord) -> overlay.Rgba | None:
        masks, labels = self._masks(record)
        return overlay.instances_rgba(masks, labels, table=self.dataset.table)

    def labels(self, record: ImageRecord) -> IntArray | None:
        masks, labels = self._masks(record)
        shown = np.full((record.height, record.width), self.background, dtype=np.int64)
        for mask, label in reversed(list(zip(masks, labels, strict=True))):
            shown[mask] = label
        return shown


_KINDS: Mapping[str, type[Layers]] = {
    "semantic": SemanticLayers,
    "instance": InstanceLayers,
    "panoptic": PanopticLayers,
}


def open_layers(
    dataset: PreparedDataset, split: str, task: str, predictions: Path | None = None
) -> Layers | None:
    """Open the ground truth of a split, or the predictions of a run; None when there are none."""
    if predictions is not None and not (predictions / FILES[task]).exists():
        return None
    return _KINDS[task](dataset, split, predictions)
