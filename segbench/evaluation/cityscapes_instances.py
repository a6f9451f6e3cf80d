"""Cityscapes' instance-weighted IoU (iIoU), from label-id predictions and instance-id truth.

A large object has many pixels and decides the IoU of its class alone. iIoU weighs the pixels
of an instance by mean class size / instance size, in hits and misses; false positives belong to
no instance and stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segbench.evaluation._runs import value_counts
from segbench.evaluation.cityscapes import CLASSES, LABEL_IDS
from segbench.types import IntArray

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


@dataclass
class InstanceHits:
    """Weighted hits and misses of each class and category, summed image by image."""

    hits: dict[Key, float] = field(default_factory=dict)
    misses: dict[Key, float] = field(default_factory=dict)

    def add(self, numbers: IntArray, prediction: IntArray) -> None:
        """Add an image.

        Args:
            numbers: [H, W] of an instanceIds PNG.
            prediction: [H, W] label ids.
        """
        inside = numbers > INSTANCES_FROM
        keys, pixels = value_counts(numbers[inside].astype(np.int64) << 8 | prediction[inside])
        predicted = keys & 255
        for number in np.unique(keys >> 8).tolist():
            chosen = keys >> 8 == number
            self._add_instance(number // INSTANCES_FROM, predicted[chosen], pixels[chosen])

    def _add_instance(self, label_id: int, predicted: IntArray, pixels: IntArray) -> None:
        if label_id not in MEAN_SIZES:
            return
        size = int(pixels.sum())
        weight = MEAN_SIZES[label_id] / size
        category = _CATEGORY_OF[label_id]
        groups: tuple[tuple[Key, Sequence[int]], ...] = (
            (label_id, (label_id,)),
            (category, CATEGORY_LABELS[category]),
        )
        for key, members in groups:
            hits = int(pixels[np.isin(predicted, members)].sum())
            self.hits[key] = self.hits.get(key, 0.0) + hits * weight
            self.misses[key] = self.misses.get(key, 0.0) + (size - hits) * weight

    def scores(self, pooled: IntArray) -> dict[str, float | None]:
        """Return ``iiou``, ``iiou_<class>``, ``category_iiou``, ``category_iiou_<name>``.

        Args:
            pooled: [256, 256] pixels of pairs of label ids over all images, rows truth.
        """
        classes = {
            f"iiou_{category.name}": self._iou(category.id, pooled, (category.id,))
            for category in CLASSES
            if category.isthing
        }
        categories = {
            f"category_iiou_{name}": self._iou(name, pooled, members)
            for name, members in CATEGORY_LABELS.items()
        }
        means = {"iiou": _mean(classes), "category_iiou": _mean(categories)}
        return {**means, **classes, **categories}

    def _iou(self, key: Key, pooled: IntArray, members: Sequence[int]) -> float | None:
        others = [label_id for label_id in LABEL_IDS if label_id not in members]
        false = int(pooled[np.ix_(others, members)].sum())
        hits = self.hits.get(key, 0.0)
        total = hits + false + self.misses.get(key, 0.0)
        return hits / total if total else None


def _mean(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return math.fsum(known) / len(known) if known else None
