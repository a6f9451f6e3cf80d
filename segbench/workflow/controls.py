"""Rows of the board that need no training and must land where theory says.

Each control is written as prediction files, so it is scored by the same code on the same
path as a network. A wrong number in one of these rows is a fault of the benchmark.

- ``oracle``: the ground truth without its crowds; every score is 1.
- ``majority_class``: the class with most pixels of the training split, everywhere. Its IoU
  is its share of the scored pixels, every other class has 0. As instances: one box and mask
  over the whole image if that class is a thing, else nothing.
- ``all_void``: 255 everywhere and no object; every score is 0.
- ``shifted_labels``: the right shapes under the next class: over all classes for label maps,
  among things for instances, among things and among stuff for panoptic maps. Every semantic,
  mask and panoptic score is 0; boxes of neighbouring objects may overlap by chance. An object
  whose class is alone in its group has no other class to take and is left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import ConfigError, DataError, did_you_mean
from segbench.core.files import atomic_path, read_json, write_json
from segbench.core.progress import track
from segbench.core.types import IGNORE_INDEX, VOID, CategoryTable, ImageRecord, IntArray
from segbench.formats.label_maps import (
    read_label_map,
    read_panoptic_ids,
    write_label_map,
    write_panoptic_ids,
)
from segbench.formats.prepared import PreparedDataset
from segbench.workflow.config import CONTROLS

Json = dict[str, Any]


@dataclass(frozen=True)
class Relabelling:
    """What a control makes of the ground truth.

    ``train_ids`` uint8 [256] maps label maps; ``category_ids`` maps objects and segments,
    those of other categories are left out; ``everywhere`` is the category that covers each
    image whole, if any.
    """

    train_ids: IntArray
    category_ids: Mapping[int, int] = field(default_factory=dict)
    everywhere: int | None = None


def write_control(name: str, dataset: PreparedDataset, split: str, out: Path) -> None:
    """Write the prediction files of a control for every task the dataset has.

    Args:
        name: One of ``segbench.workflow.config.CONTROLS``.
        dataset: A prepared dataset.
        split: Its split to predict.
        out: Folder of the predictions.

    Raises:
        ConfigError: The control or the split is unknown.
        DataError: The split has no ground truth of one of the dataset's tasks.
    """
    relabelling = control_relabelling(name, dataset)
    records = dataset.images(split)
    label = f"control {name}"
    if "semantic" in dataset.tasks:
        for record in track(records, len(records), f"{label}, semantic"):
            _write_semantic(record, relabelling, out=out)
    if "instance" in dataset.tasks:
        truth = read_json(dataset.instances_file(split))
        write_json(out / "instances.json", _instances(truth, relabelling, dataset), indent=None)
    if "panoptic" in dataset.tasks:
        truth = read_json(dataset.panoptic_file(split))
        by_image = {annotation["image_id"]: annotation for annotation in truth["annotations"]}
        annotations = [
            _write_panoptic(record, by_image[record.image_id], relabelling=relabelling, out=out)
            for record in track(records, len(records), f"{label}, panoptic")
        ]
        document = {**truth, "annotations": annotations}
        write_json(out / "panoptic.json", document, indent=None)


def control_relabelling(name: str, dataset: PreparedDataset) -> Relabelling:
    """Return what a control does on a dataset; ``ConfigError`` for an unknown control."""
    table = dataset.table
    if name == "oracle":
        return Relabelling(np.arange(256, dtype=np.uint8), {c: c for c in table.category_ids})
    if name == "majority_class":
        majority = majority_train_id(dataset)
        return Relabelling(
            np.full(256, majority, dtype=np.uint8), everywhere=table.category_ids[majority]
        )
    if name == "all_void":
        return Relabelling(np.full(256, IGNORE_INDEX, dtype=np.uint8))
    if name == "shifted_labels":
        return _shifted(table)
    raise ConfigError(
        f"unknown control '{name}'.{did_you_mean(name, CONTROLS)}",
        fix=f"controls are {', '.join(CONTROLS)}",
    )


def majority_train_id(dataset: PreparedDataset) -> int:
    """Return the train id with most pixels in ``train`` (in the first split without one)."""
    histograms = dataset.description["class_histogram"]
    histogram = histograms.get("train") or next(iter(histograms.values()))
    return int(np.argmax(histogram["pixels"]))


def _shifted(table: CategoryTable) -> Relabelling:
    train_ids = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    if len(table) > 1:
        train_ids[: len(table)] = np.roll(np.arange(len(table)), -1)
    category_ids: dict[int, int] = {}
    for group in (table.thing_train_ids, table.stuff_train_ids):
        members = [table.category_ids[train_id] for train_id in group]
        if len(members) > 1:
            category_ids |= dict(zip(members, [*members[1:], members[0]], strict=True))
    return Relabelling(train_ids, category_ids)


def _write_semantic(record: ImageRecord, relabelling: Relabelling, *, out: Path) -> None:
    if record.semantic is None:
        raise DataError(f"image {record.image_id} ({record.stem}) has no semantic truth")
    target = out / "semantic" / f"{record.stem}.png"
    labels = read_label_map(record.semantic)
    predicted = relabelling.train_ids[labels]
    if np.array_equal(predicted, labels):
        _copy(record.semantic, target)
    else:
        write_label_map(target, predicted)


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _instances(truth: Json, relabelling: Relabelling, dataset: PreparedDataset) -> list[Json]:
    """Return COCO results; every score is 1."""
    things = {dataset.table.category_ids[train_id] for train_id in dataset.table.thing_train_ids}
    if relabelling.everywhere in things:
        return [_whole_image(image, relabelling.everywhere) for image in truth["images"]]
    return [
        {
            "image_id": annotation["image_id"],
            "category_id": relabelling.category_ids[annotation["category_id"]],
            "segmentation": annotation["segmentation"],
            "bbox": annotation["bbox"],
            "score": 1.0,
        }
        for annotation in truth["annotations"]
        if annotation["category_id"] in relabelling.category_ids and not annotation["iscrowd"]
    ]


def _whole_image(image: Json, category_id: int | None) -> Json:
    size = (image["height"], image["width"])
    runs = coco_mask.encode(np.ones(size, dtype=np.uint8, order="F"))
    return {
        "image_id": image["id"],
        "category_id": category_id,
        "segmentation": {"size": list(size), "counts": runs["counts"].decode("ascii")},
        "bbox": [0, 0, size[1], size[0]],
        "score": 1.0,
    }


def _write_panoptic(
    record: ImageRecord, truth: Json, *, relabelling: Relabelling, out: Path
) -> Json:
    """Write the panoptic PNG of an image and return its annotation."""
    if record.panoptic is None:
        raise DataError(f"image {record.image_id} ({record.stem}) has no panoptic truth")
    target = out / "panoptic" / f"{record.stem}.png"
    segments = _segments(truth["segments_info"], relabelling)
    if relabelling.everywhere is not None:
        segments = [_whole_segment(record, relabelling.everywhere)]
        write_panoptic_ids(target, np.ones((record.height, record.width), dtype=np.int32))
    elif len(segments) == len(truth["segments_info"]):
        _copy(record.panoptic, target)
    else:
        ids = read_panoptic_ids(record.panoptic)
        kept = np.isin(ids, [segment["id"] for segment in segments])
        write_panoptic_ids(target, np.where(kept, ids, VOID))
    return {"image_id": record.image_id, "file_name": target.name, "segments_info": segments}


def _segments(truth: Sequence[Json], relabelling: Relabelling) -> list[Json]:
    return [
        {**segment, "category_id": relabelling.category_ids[segment["category_id"]]}
        for segment in truth
        if segment["category_id"] in relabelling.category_ids and not segment["iscrowd"]
    ]


def _whole_segment(record: ImageRecord, category_id: int) -> Json:
    return {
        "id": 1,
        "category_id": category_id,
        "area": record.width * record.height,
        "bbox": [0, 0, record.width, record.height],
        "iscrowd": 0,
    }
