"""The files of one prepared image and what its documents say of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.files import atomic_open
from segbench.core.provenance import json_digest
from segbench.core.types import (
    IGNORE_INDEX,
    BoolArray,
    CategoryTable,
    Instances,
    IntArray,
    PanopticMap,
)
from segbench.datasets.reading.id_runs import shapes_of, value_counts
from segbench.datasets.source import IMAGE_SUFFIXES, RawImage
from segbench.formats.label_maps import id2rgb, read_image
from segbench.formats.png import encode_png

PNG_LEVEL = 1
"""zlib level of photographs that are composed here: a demo must not wait for zlib."""

Json = dict[str, Any]


@dataclass(frozen=True)
class ImageWriter:
    """Writes the images of one split under ``root`` and describes each as plain JSON.

    A photograph is copied, never linked: what happens to the prepared form leaves the raw
    data alone, and the other way round. Files are not synced one by one: the journal holds
    their digests, and the whole is synced before it counts as complete.
    """

    root: Path
    split: str
    table: CategoryTable

    def write(self, stem: str, image_id: int, raw: RawImage) -> Json:
        """Write every file of an image.

        Returns:
            ``row`` of ``<split>.jsonl``, ``annotations`` and ``segments`` in COCO's form
            (None without that truth) and ``pixels``: counts a train id, ignored ones last.

        Raises:
            DataError: The ground truth contradicts itself, or the disk is full.
        """
        photograph = _photograph(raw.image)
        files = {"image": (f"images/{self.split}/{stem}{photograph.suffix}", photograph.data)}
        if raw.semantic is not None:
            files["semantic"] = (f"semantic/{self.split}/{stem}.png", encode_png(raw.semantic))
        if raw.panoptic is not None:
            encoded = encode_png(id2rgb(raw.panoptic.ids))
            files["panoptic"] = (f"panoptic/{self.split}/{stem}.png", encoded)
        for name, data in files.values():
            with atomic_open(self.root / name, durable=False) as stream:
                stream.write(data)
        annotations = _objects(raw, image_id, table=self.table)
        segments = raw.panoptic and _segments(raw.panoptic, table=self.table)
        row = _row(image_id, files, raw)
        row["content"] = _content(photograph.content, raw, [annotations, segments])
        pixels = pixels_of(raw, self.table)
        return {"row": row, "annotations": annotations, "segments": segments, "pixels": pixels}


@dataclass(frozen=True)
class _Photograph:
    """``data`` is the file to write, ``content`` what identifies it whatever the encoder."""

    suffix: str
    data: bytes
    content: bytes


def _photograph(image: IntArray | Path) -> _Photograph:
    """Return a file as it is; pixels and files of other kinds become PNG."""
    if isinstance(image, Path):
        data = _read_bytes(image)
        if image.suffix.lower() in IMAGE_SUFFIXES:
            return _Photograph(image.suffix.lower(), data, data)
        return _Photograph(".png", _encode(read_image(image)), data)
    return _Photograph(".png", _encode(image), np.ascontiguousarray(image).tobytes())


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _encode(pixels: IntArray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=PNG_LEVEL)
    return stream.getvalue()


def _row(image_id: int, files: Mapping[str, tuple[str, bytes]], raw: RawImage) -> Json:
    names = {key: name for key, (name, _) in files.items()}
    return {
        "image_id": image_id,
        "image": names["image"],
        "width": raw.size[1],
        "height": raw.size[0],
        "semantic": names.get("semantic"),
        "panoptic": names.get("panoptic"),
        "sha256": {key: hashlib.sha256(data).hexdigest() for key, (_, data) in files.items()},
        "bytes": {key: len(data) for key, (_, data) in files.items()},
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
        labels = np.flatnonzero(value_counts(raw.semantic))
        wrong = [int(label) for label in labels if len(table) <= label != IGNORE_INDEX]
        if wrong:
            raise DataError(f"labels {wrong} are outside the {len(table)} classes")
    if raw.panoptic is not None:
        _check_segments(raw.panoptic)


def _by(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _check_segments(panoptic: PanopticMap) -> None:
    shown = set(shapes_of(panoptic.ids)) - {0}
    listed = {segment.id for segment in panoptic.segments}
    if shown != listed:
        raise DataError(
            f"panoptic segments shown {sorted(shown - listed)} are not listed, "
            f"listed {sorted(listed - shown)} are not shown"
        )
    if len(listed) < len(panoptic.segments):
        raise DataError("two panoptic segments have the same id")


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
    shapes = shapes_of(panoptic.ids)
    return [
        {
            "id": segment.id,
            "category_id": table.categories[segment.label].id,
            "area": shapes[segment.id].area,
            "bbox": shapes[segment.id].box,
            "iscrowd": int(segment.iscrowd),
        }
        for segment in panoptic.segments
    ]


def pixels_of(raw: RawImage, table: CategoryTable) -> list[int]:
    """Count pixels a train id, ignored ones last; instance-only truth counts mask areas."""
    if raw.semantic is not None:
        labels = np.zeros(IGNORE_INDEX + 1, dtype=np.int64)
        found = value_counts(raw.semantic)
        labels[: len(found)] = found
        return [*labels[: len(table)].tolist(), int(labels[IGNORE_INDEX])]
    counts = np.zeros(len(table), dtype=np.int64)
    if raw.panoptic is not None:
        shapes = shapes_of(raw.panoptic.ids)
        for segment in raw.panoptic.segments:
            counts[segment.label] += shapes[segment.id].area
    elif raw.annotations is not None:
        counts += mask_areas(raw.annotations, table)
    elif raw.instances is not None:
        np.add.at(counts, raw.instances.labels, raw.instances.masks.sum(axis=(1, 2)))
    total = raw.size[0] * raw.size[1]
    return [*counts.tolist(), max(total - int(counts.sum()), 0)]


def mask_areas(annotations: Sequence[Mapping[str, Any]], table: CategoryTable) -> IntArray:
    """Return the pixels under the masks of COCO annotations, by train id."""
    counts = np.zeros(len(table), dtype=np.int64)
    for annotation in annotations:
        if annotation["category_id"] in table.category_ids:
            area = int(coco_mask.area(annotation["segmentation"]))
            counts[table.train_id(annotation["category_id"])] += area
    return counts


def _content(image: bytes, raw: RawImage, documents: Sequence[Any]) -> str:
    """Return 16 hex digits over pixels and ground truth, whatever PNG encoder wrote them."""
    digest = hashlib.sha256(image)
    for array in (raw.semantic, raw.panoptic and raw.panoptic.ids.astype("<i4")):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    digest.update(json_digest([raw.size, *documents]).encode())
    return digest.hexdigest()[:16]
