"""Cityscapes' label-id counts: instance-weighted IoU (iIoU) and the full confusion matrix.

A large object has many pixels and decides the IoU of its class alone. iIoU weighs the pixels
of an instance by mean class size / instance size, in hits and misses; false positives belong to
no instance and stay as they are. What is stored are the pixels of every instance, as integers:
the official sums are made from them in the official order, so they agree to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import FloatArray, ImageId, IntArray
from segbench.datasets.classes.cityscapes import CLASSES
from segbench.evaluation.counting.runs import run_starts, sum_by_value
from segbench.evaluation.protocols.cityscapes_labels import LABEL_IDS, MAX_LABEL_ID

INSTANCES_FROM = 1000
"""Numbers above are label id * 1000 + instance."""
MEAN_SIZES = {
    24: 3462.4756337644,
    25: 3930.4788056518,
    26: 12794.0202738185,
    27: 27855.1264367816,
    28: 35732.1511111111,
    31: 67583.7075812274,
    32: 6298.7200839748,
    33: 4672.3249222261,
}
"""Mean pixels of an instance of each label id, as cityscapesScripts has measured them."""
CATEGORY_LABELS = {"human": (24, 25), "vehicle": (26, 27, 28, 29, 30, 31, 32, 33)}
"""Label ids of the categories all of whose labels have instances, evaluated or not."""
_CATEGORY_OF = {category.id: category.supercategory for category in CLASSES}
Key = int | str
"""A label id or the name of a category."""
KEYS: tuple[Key, ...] = (*MEAN_SIZES, *CATEGORY_LABELS)
"""What has an iIoU."""
_SIZE = MAX_LABEL_ID + 1


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """Pixels by label id of each image, and of each of its instances.

    ``entries`` int64 [n, 4]: position in ``image_ids``, true and predicted label id, pixels.
    ``instances`` int64 [m, 5], by image, then instance number: position in ``image_ids``, label
    id, pixels, pixels predicted as that label, pixels predicted as a label of its category.
    ``has_instances``: whether the ground truth says what its instances are.
    """

    image_ids: tuple[ImageId, ...]
    entries: IntArray
    instances: IntArray
    has_instances: bool = True

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Label ids of the rows of ``per_class``."""
        return LABEL_IDS

    @cached_property
    def confusion(self) -> IntArray:
        """Return the pooled int64 [34, 34] matrix of label ids, rows truth."""
        matrix = np.zeros((_SIZE, _SIZE), dtype=np.int64)
        np.add.at(matrix, (self.entries[:, 1], self.entries[:, 2]), self.entries[:, 3])
        return matrix

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return merge([self, other])

    def subset(self, image_ids: Iterable[ImageId]) -> LabelCounts:
        """Return the counts of some images, in the order they have here."""
        wanted = set(image_ids)
        kept = [i for i, image_id in enumerate(self.image_ids) if image_id in wanted]
        position = np.full(len(self.image_ids), -1, dtype=np.int64)
        position[kept] = np.arange(len(kept))
        tables = [_renumber(table, position) for table in (self.entries, self.instances)]
        names = tuple(self.image_ids[i] for i in kept)
        return LabelCounts(names, tables[0], tables[1], self.has_instances)

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays for storage."""
        return {
            "image_ids": np.array(self.image_ids),
            "entries": self.entries,
            "instances": self.instances,
            "has_instances": np.bool_(self.has_instances),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> LabelCounts:
        """Return the counts that ``to_arrays`` took apart."""
        return cls(
            tuple(arrays["image_ids"].tolist()),
            arrays["entries"],
            arrays["instances"],
            bool(arrays["has_instances"]),
        )


def _renumber(table: IntArray, position: IntArray) -> IntArray:
    kept: IntArray = table[position[table[:, 0]] >= 0].copy()
    kept[:, 0] = position[kept[:, 0]]
    return kept


def merge(parts: Sequence[LabelCounts]) -> LabelCounts:
    """Join the counts of several images or shards, in this order."""
    if not parts:
        raise DataError("there are no images to score")
    first = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    shifts = [np.array([n, 0, 0, 0, 0]) for n in first[:-1]]
    return LabelCounts(
        tuple(image_id for part in parts for image_id in part.image_ids),
        np.concatenate([p.entries + s[:4] for p, s in zip(parts, shifts, strict=True)]),
        np.concatenate([p.instances + s for p, s in zip(parts, shifts, strict=True)]),
        all(part.has_instances for part in parts),
    )


def count_labels(
    table: IntArray, instances: IntArray | None, *, image_id: ImageId = 0
) -> LabelCounts:
    """Return the counts of an image.

    Args:
        table: Pixels of pairs of label ids, rows truth, [34 or more, 34 or more].
        instances: [m, 4] of ``count_instances``; None where the ground truth names no instances.
        image_id: How the image is called in the stored counts.
    """
    rows, columns = np.nonzero(table)
    cells = [np.zeros_like(rows), rows, columns, table[rows, columns]]
    found = np.zeros((0, 4), dtype=np.int64) if instances is None else instances
    return LabelCounts(
        (image_id,),
        np.stack(cells, axis=1).astype(np.int64),
        np.pad(found, ((0, 0), (1, 0))),
        instances is not None,
    )


def count_instances(numbers: IntArray, prediction: IntArray) -> IntArray:
    """Count the pixels of each evaluated instance of an image.

    Args:
        numbers: [H, W] of an instanceIds PNG.
        prediction: [H, W] label ids.

    Returns:
        int64 [m, 4] by rising number: label id, pixels, those predicted as that label, those
        predicted as a label of its category.

    Raises:
        DataError: The sizes differ, or a number belongs to no label.
    """
    check_numbers(numbers, prediction.shape)
    starts, lengths = run_starts(numbers, prediction)
    number, label = (flat.reshape(-1)[starts] for flat in (numbers, prediction))
    inside = number > INSTANCES_FROM
    keys = number[inside].astype(np.int64) << 8 | label[inside]
    values, pixels = sum_by_value(keys, lengths[inside])
    return _instance_table(values >> 8, values & 255, pixels)


def check_numbers(numbers: IntArray, shape: tuple[int, ...]) -> None:
    """Refuse an instanceIds map of another shape, or with numbers of unknown labels."""
    if numbers.shape != shape:
        raise DataError(
            f"expected the size {shape[0]}x{shape[1]}, found {numbers.shape[0]}x{numbers.shape[1]}"
        )
    present = np.flatnonzero(np.bincount(numbers.reshape(-1)))
    unknown = present[label_of(present) > MAX_LABEL_ID]
    if len(unknown):
        raise DataError(
            f"expected label ids 0 to {MAX_LABEL_ID}, or label id * 1000 + instance, "
            f"found {unknown[:3].tolist()}"
        )


def label_of(numbers: IntArray) -> IntArray:
    """Return the label id of each number of an instanceIds PNG."""
    labels: IntArray = np.where(numbers < INSTANCES_FROM, numbers, numbers // INSTANCES_FROM)
    return labels


def _instance_table(numbers: IntArray, predicted: IntArray, pixels: IntArray) -> IntArray:
    """Sum pixels [n] of ascending instance numbers by what is predicted there."""
    rows = []
    bounds = np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), len(numbers))
    for start, stop in pairwise(bounds.tolist()):
        label_id = int(numbers[start]) // INSTANCES_FROM
        if label_id in MEAN_SIZES:
            there, size = predicted[start:stop], pixels[start:stop]
            members = category_members(label_id)
            hits = int(size[there == label_id].sum())
            rows.append((label_id, int(size.sum()), hits, int(size[np.isin(there, members)].sum())))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def category_members(label_id: int) -> tuple[int, ...]:
    """Return the label ids of the category of a thing."""
    return CATEGORY_LABELS[_CATEGORY_OF[label_id]]


def weighted(counts: LabelCounts, key: Key) -> tuple[IntArray, FloatArray]:
    """Return the image [m] of each instance of a class or category, and its weighted pixels.

    The pixels are float64 [m, 2]: hits and misses.
    """
    column = 3 if isinstance(key, int) else 4
    members = (key,) if isinstance(key, int) else CATEGORY_LABELS[key]
    chosen = counts.instances[np.isin(counts.instances[:, 1], members)]
    size, hits = chosen[:, 2], chosen[:, column]
    weight = np.array([MEAN_SIZES[label_id] for label_id in chosen[:, 1].tolist()]) / size
    return chosen[:, 0], np.stack([hits * weight, (size - hits) * weight], axis=1)


def false_cells(key: Key) -> tuple[list[int], list[int]]:
    """Return the true and the predicted label ids whose pixels are false positives."""
    members = [key] if isinstance(key, int) else list(CATEGORY_LABELS[key])
    return [label_id for label_id in LABEL_IDS if label_id not in members], members


def instance_iou(counts: LabelCounts, key: Key) -> float | None:
    """Return the iIoU of a label id or category; None where it has no pixels."""
    pixels = weighted(counts, key)[1]
    # An accumulated sum adds one by one, as the official loop does; a plain one adds in pairs.
    hits, misses = np.cumsum(pixels, axis=0)[-1].tolist() if len(pixels) else (0.0, 0.0)
    false = int(counts.confusion[np.ix_(*false_cells(key))].sum())
    total = hits + false + misses
    return hits / total if total else None


def scores(counts: LabelCounts) -> dict[str, Any]:
    """Return ``iiou``, ``iiou_<class>``, ``category_iiou``, ``category_iiou_<name>``.

    ``per_class`` has ``iiou`` of each of the 19 classes. Nothing without instances.
    """
    if not counts.has_instances:
        return {"per_class": [{} for _ in CLASSES]}
    by_key = {key: instance_iou(counts, key) for key in KEYS}
    things = [category for category in CLASSES if category.isthing]
    classes = {f"iiou_{category.name}": by_key[category.id] for category in things}
    categories = {f"category_iiou_{name}": by_key[name] for name in CATEGORY_LABELS}
    means = {"iiou": _mean(classes), "category_iiou": _mean(categories)}
    rows = [{"iiou": by_key.get(category.id)} for category in CLASSES]
    return {**means, **classes, **categories, "per_class": rows}


def _mean(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return math.fsum(known) / len(known) if known else None
