"""What the numbers in label-map PNGs mean, for each way data sets write them.

The ground truth of ADE20K calls void 0 and the classes 1 to 150, Cityscapes uses label ids of which
19 count, Pascal VOC has 255 for void: a ``LabelCode`` says so as data and gives the tables
that turn such numbers into train ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segbench.core.types import IGNORE_INDEX, IntArray

UNKNOWN = -1
"""In a table of ``LabelCode``: a number that must not occur."""
_NUMBERS = 256


@dataclass(frozen=True)
class LabelCode:
    """A numbering of classes in label maps.

    ``first`` is the number of train id 0, the others follow; ``ids`` gives the number of each
    train id instead where they do not follow. ``void_truth`` and ``void_prediction`` are the
    numbers that are no class; every other number is an error.
    """

    name: str
    meaning: str
    first: int = 0
    ids: tuple[int, ...] = ()
    void_truth: tuple[int, ...] = (IGNORE_INDEX,)
    void_prediction: tuple[int, ...] = (IGNORE_INDEX,)

    def numbers(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of each train id."""
        return self.ids or tuple(range(self.first, self.first + num_classes))

    def truth_table(self, num_classes: int) -> IntArray:
        """Return the train id of each number 0 to 255: C for void, ``UNKNOWN`` for an error."""
        return self._table(num_classes, self.void_truth)

    def prediction_table(self, num_classes: int) -> IntArray:
        """Return the same for predictions."""
        return self._table(num_classes, self.void_prediction)

    def _table(self, num_classes: int, void: tuple[int, ...]) -> IntArray:
        table = np.full(_NUMBERS, UNKNOWN, dtype=np.int64)
        table[list(void)] = num_classes
        table[list(self.numbers(num_classes))] = np.arange(num_classes)
        return table


TRAIN_IDS = LabelCode("train-ids", "0 to C-1 are the classes, 255 is void")
REDUCE_ZERO = LabelCode(
    "reduce-zero",
    "0 is void, 1 to C are the classes; write predictions with the same numbers",
    first=1,
    void_truth=(0,),
    void_prediction=(0,),
)
PASCAL_VOC = LabelCode(
    "pascal-voc",
    "0 is background, 1 to 20 the objects, 255 void in the truth; a prediction has no void",
    void_prediction=(),
)
CAMVID = LabelCode(
    "camvid",
    "0 to 10 are the classes, 11 (or 255) is void",
    void_truth=(11, IGNORE_INDEX),
    void_prediction=(11, IGNORE_INDEX),
)
MAPILLARY = LabelCode(
    "mapillary-v1.2",
    "0 to 64 are the scored classes, 65 is unlabeled",
    void_truth=(65,),
    void_prediction=(65,),
)
_UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
COCO_STUFF = LabelCode(
    "coco-stuff",
    "COCO category id minus 1 (0 to 181, of which 171 are used), 255 is unlabeled",
    ids=tuple(i - 1 for i in range(1, 183) if i not in _UNUSED_COCO_IDS),
)
