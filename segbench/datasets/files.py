"""The files of one prepared image, and the COCO documents of a split."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from segbench.datasets.source import IMAGE_SUFFIXES, RawImage
from segbench.errors import DataError
from segbench.formats import (
    atomic_open,
    atomic_path,
    read_image,
    write_label_map,
    write_panoptic_ids,
)
from segbench.provenance import file_digest, json_digest
from segbench.types import IGNORE_INDEX, BoolArray, CategoryTable, Instances, IntArray, PanopticMap

PNG_LEVEL = 1
"""zlib level of images that are composed here: a stage of a demo must not wait for zlib."""

Json = dict[str, Any]


@dataclass(frozen=True)
class ImageWriter:
    """Writes the images of one split under ``root`` and describes each as plain JSON."""

    root: Path
    split: str
    table: CategoryTable

    def write(self, stem: str, image_id: int, raw: RawImage) -> Json:
        """Write every file of an image.

        Returns:
            ``row`` of ``<split>.jsonl``, ``annotations`` and ``segments`` in COCO's form
            (None without that truth) and ``pixels``: counts a train id, ignored ones last.

        Raises:
            DataError: The truth contradicts itself, or the disk is full.
        """
        files = {"image": self._image(stem, raw.image)}
        if raw.semantic is not None:
            files["semantic"] = self.root / "semantic" / self.split / f"{stem}.png"
            write_label_map(files["semantic"], raw.semantic)
        if raw.panoptic is not None:
            files["panoptic"] = self.root / "panoptic" / self.split / f"{stem}.png"
            write_panoptic_ids(files["panoptic"], raw.panoptic.ids)
        annotations = _objects(raw, image_id, table=self.table)
        segments = raw.panoptic and _segments(raw.panoptic, table=self.table)
        row = self._row(image_id, files, raw)
        row["content"] = _content(raw, [annotations, segments])
        pixels = _pixels(raw, len(self.table))
        return {"row": row, "annotations": annotations, "segments": segments, "pixels": pixels}

    def _image(self, stem: str, image: IntArray | Path) -> Path:
        folder = self.root / "images" / self.split
        if isinstance(image, Path) and image.suffix.lower() in IMAGE_SUFFIXES:
            target = folder / f"{stem}{image.suffix.lower()}"
            with atomic_path(target) as temporary:
                shutil.copyfile(image, temporary)
            return target
        pixels = read_image(image) if isinstance(image, Path) else image
        target = folder / f"{stem}.png"
        with atomic_open(target) as stream:
            Image.fromarray(pixels).save(stream, format="PNG", compress_level=PNG_LEVEL)
        return target

    def _row(self, image_id: int, files: Mapping[str, Path], raw: RawImage) -> Json:
        relative = {key: path.relative_to(self.root).as_posix() for key, path in files.items()}
        return {
            "image_id": image_id,
            "image": relative["image"],
            "width": raw.size[1],
            "height": raw.size[0],
            "semantic": relative.get("semantic"),
            "panoptic": relative.get("panoptic"),
            "sha256": {key: file_digest(path) for key, path in files.items()},
        }


def check_raw_image(raw: RawImage, table: CategoryTable) -> None:
    """Refuse a truth that an adapter got wrong: shapes, labels, empty or unlisted segments."""
    shapes = {
        "image": None if isinstance(raw.image, Path) else raw.image.shape[:2],
        "semantic truth": None if raw.semantic is None else raw.semantic.shape,
        "instance truth": None if raw.instances is None else raw.instances.masks.shape[1:],
        "panoptic truth": None if raw.panoptic is None else raw.panoptic.ids.shape,
    }
    for part, shape in shapes.items():
        if shape is not None and tuple(shape) != raw.size:
            raise DataError(f"{part}: expected {_by(raw.size)} pixels, found {_by(shape)}")
    if raw.semantic is not None:
        labels = np.flatnonzero(np.bincount(raw.semantic.ravel(), minlength=1))
        wrong = [int(label) for label in labels if len(table) <= label != IGNORE_INDEX]
        if wrong:
            raise DataError(f"labels {wrong} are outside the {len(table)} classes")
    if raw.panoptic is not None:
        _check_segments(raw.panoptic)


def _by(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _check_segments(panoptic: PanopticMap) -> None:
    shown = set(np.unique(panoptic.ids).tolist()) - {0}
    listed = {segment.id for segment in panoptic.segments}
    if shown != listed:
        raise DataError(
            f"panoptic segments shown {sorted(shown - listed)} are not listed, "
            f"listed {sorted(listed - shown)} are not shown"
        )


def encode_masks(masks: BoolArray) -> list[Json]:
    """Return compressed COCO RLE of masks [N, H, W], ``counts`` as text."""
    stacked = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    runs = coco_mask.encode(stacked)
    return [{"size": list(run["size"]), "counts": run["counts"].decode("ascii")} for run in runs]


def _objects(raw: RawImage, image_id: int, *, table: CategoryTable) -> list[Json] | None:
    """Return the annotations of an image: as published, else made of its masks."""
    if raw.annotations is not None:
        return [{"image_id": image_id, **annotation} for annotation in raw.annotations]
    if raw.instances is None:
        return None
    return _annotations(raw.instances, image_id, table=table)


def _annotations(instances: Instances, image_id: int, *, table: CategoryTable) -> list[Json]:
    """Return COCO annotations without ids: those are given when the split is complete."""
    crowd = instances.iscrowd if instances.iscrowd is not None else np.zeros(len(instances), bool)
    if not len(instances):
        return []
    runs = encode_masks(instances.masks)
    areas = coco_mask.area(runs).tolist()
    boxes = coco_mask.toBbox(runs).tolist()
    return [
        {
            "image_id": image_id,
            "category_id": table.categories[int(label)].id,
            "segmentation": run,
            "area": area,
            "bbox": box,
            "iscrowd": int(is_crowd),
        }
        for label, run, area, box, is_crowd in zip(
            instances.labels, runs, areas, boxes, crowd, strict=True
        )
    ]


def _segments(panoptic: PanopticMap, *, table: CategoryTable) -> list[Json]:
    ids, compact = np.unique(panoptic.ids, return_inverse=True)
    compact = compact.reshape(panoptic.ids.shape)
    areas = np.bincount(compact.ravel())
    places = ndimage.find_objects(compact + 1)
    index = {int(segment_id): position for position, segment_id in enumerate(ids)}
    segments = []
    for segment in panoptic.segments:
        rows, columns = places[index[segment.id]]
        box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
        segments.append(
            {
                "id": segment.id,
                "category_id": table.categories[segment.label].id,
                "area": int(areas[index[segment.id]]),
                "bbox": box,
                "iscrowd": int(segment.iscrowd),
            }
        )
    return segments


def _pixels(raw: RawImage, num_classes: int) -> list[int]:
    """Count pixels a train id, ignored ones last; instance-only truth counts mask areas."""
    if raw.semantic is not None:
        counts = np.bincount(raw.semantic.ravel(), minlength=IGNORE_INDEX + 1)
        return [*counts[:num_classes].tolist(), int(counts[IGNORE_INDEX])]
    counts = np.zeros(num_classes, dtype=np.int64)
    if raw.panoptic is not None:
        for segment in raw.panoptic.segments:
            counts[segment.label] += int((raw.panoptic.ids == segment.id).sum())
    elif raw.instances is not None:
        np.add.at(counts, raw.instances.labels, raw.instances.masks.sum(axis=(1, 2)))
    total = raw.size[0] * raw.size[1]
    return [*counts.tolist(), max(total - int(counts.sum()), 0)]


def _content(raw: RawImage, documents: Sequence[Any]) -> str:
    """Return 16 hex digits over pixels and truth, whatever PNG encoder wrote them."""
    digest = hashlib.sha256()
    if isinstance(raw.image, Path):
        digest.update(raw.image.read_bytes())
    else:
        digest.update(np.ascontiguousarray(raw.image).tobytes())
    for array in (raw.semantic, raw.panoptic and raw.panoptic.ids.astype("<i4")):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    digest.update(json_digest([raw.size, *documents]).encode())
    return digest.hexdigest()[:16]
