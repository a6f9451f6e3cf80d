"""The truth of a prepared split, decoded image by image into the numbering a model learns."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import (
    IGNORE_INDEX,
    BoolArray,
    CategoryTable,
    ImageRecord,
    Instances,
    IntArray,
    Sample,
    Task,
)
from segbench.formats.label_maps import read_image, read_label_map, read_panoptic_ids
from segbench.formats.prepared import PreparedDataset


class SplitSamples:
    """Reads the samples of one split.

    Semantic maps hold train ids for semantic models and panoptic indices for panoptic ones.
    Instances carry thing numbers from 1; crowds are left out.

    Args:
        dataset: A prepared dataset.
        split: Its split.
        task: Decides which truths are read; None reads images only.

    Raises:
        DataError: The split is empty or has no ground truth for the task.
    """

    def __init__(self, dataset: PreparedDataset, split: str, *, task: Task | None) -> None:
        self.dataset, self.split = dataset, split
        self.records = dataset.images(split)
        if not self.records:
            raise DataError(f"split '{split}' of {dataset.root} has no images")
        self._semantic = task in ("semantic", "panoptic")
        self._numbers = _label_numbers(dataset.table, panoptic=task == "panoptic")
        self._objects: dict[int, list[dict[str, Any]]] = {}
        self._segments: dict[int, dict[int, int]] = {}
        if task in ("instance", "panoptic"):
            self._objects = read_objects(dataset, split)
        if self._semantic and any(record.semantic is None for record in self.records):
            self._segments = _read_segments(dataset, split)
        self._instance = task in ("instance", "panoptic")

    def sample(self, record: ImageRecord) -> Sample:
        """Read one image with its ground truth.

        Raises:
            DataError: A file is broken or its size is not that of the image.
        """
        image = np.array(read_image(record.image))
        size = image.shape[:2]
        semantic = self._numbers[self._train_ids(record, size)] if self._semantic else None
        instances = self._instances(record) if self._instance else None
        return Sample(record, image, semantic, instances)

    def _train_ids(self, record: ImageRecord, size: tuple[int, ...]) -> IntArray:
        if record.semantic is not None:
            return read_label_map(record.semantic, size=size)
        if record.panoptic is None:
            raise DataError(
                f"image {record.image_id} of split '{self.split}' has no semantic truth",
                fix="choose a split with truth, or a model of another task",
            )
        ids = read_panoptic_ids(record.panoptic, size=size)
        labels = np.full(ids.shape, IGNORE_INDEX, dtype=np.uint8)
        for segment_id, train_id in self._segments.get(record.image_id, {}).items():
            labels[ids == segment_id] = train_id
        return labels

    def _instances(self, record: ImageRecord) -> Instances:
        table = self.dataset.table
        numbers = {table.category_ids[t]: i + 1 for i, t in enumerate(table.thing_train_ids)}
        objects = [o for o in self._objects.get(record.image_id, []) if not o.get("iscrowd")]
        shape = (record.height, record.width)
        masks = np.zeros((len(objects), *shape), dtype=bool)
        for mask, annotation in zip(masks, objects, strict=True):
            mask[:] = decode_mask(annotation["segmentation"], *shape)
        labels = np.array([numbers[o["category_id"]] for o in objects], dtype=np.int64)
        boxes = np.array([_corners(o["bbox"]) for o in objects], dtype=np.float32)
        return Instances(masks=masks, labels=labels, boxes=boxes.reshape(-1, 4))


def read_objects(dataset: PreparedDataset, split: str) -> dict[int, list[dict[str, Any]]]:
    """Return the COCO annotations of each image id.

    Raises:
        DataError: The file is missing, or a category is no thing of the dataset.
    """
    path = dataset.instances_file(split)
    things = {dataset.table.category_ids[t] for t in dataset.table.thing_train_ids}
    objects: dict[int, list[dict[str, Any]]] = {}
    for annotation in read_json(path)["annotations"]:
        if annotation["category_id"] not in things:
            raise DataError(
                f"{path}: annotation {annotation['id']} has category {annotation['category_id']}, "
                f"which is no thing of '{dataset.name}'"
            )
        objects.setdefault(annotation["image_id"], []).append(annotation)
    return objects


def decode_mask(segmentation: Any, height: int, width: int) -> BoolArray:
    """Return the bool mask [H, W] of a COCO segmentation: polygons or run lengths.

    Raises:
        DataError: The run lengths are of another image size.
    """
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    if tuple(runs["size"]) != (height, width):
        raise DataError(f"a mask is of {runs['size']} pixels, its image of {[height, width]}")
    with warnings.catch_warnings():
        # pycocotools' arrays do not know the copy keyword of NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(coco_mask.decode(runs), dtype=bool)


def _label_numbers(table: CategoryTable, *, panoptic: bool) -> IntArray:
    """Return uint8 [256]: train id -> the number the model learns; the rest is ignored."""
    numbers = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    order = table.panoptic_order if panoptic else tuple(range(len(table)))
    numbers[list(order)] = np.arange(len(order), dtype=np.uint8)
    return numbers


def _read_segments(dataset: PreparedDataset, split: str) -> dict[int, dict[int, int]]:
    """Return {image id: {segment id: train id}}; segments of crowds stay ignored."""
    table = dataset.table
    numbers = {category: train_id for train_id, category in enumerate(table.category_ids)}
    content = read_json(dataset.panoptic_file(split))
    return {
        row["image_id"]: {
            s["id"]: numbers[s["category_id"]] for s in row["segments_info"] if not s["iscrowd"]
        }
        for row in content["annotations"]
    }


def _corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]
