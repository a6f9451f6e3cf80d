"""The words everything else speaks: frozen dataclasses on NumPy arrays.

Axes: N instances, H rows, W columns. Coordinates are pixels, x to the right and y down;
boxes are ``x1, y1, x2, y2`` with the far edge exclusive unless a COCO file says ``x, y, w, h``.

Three numberings of classes exist, and every function says which it takes:

- *category id*: the number in COCO JSON files, >= 1, with gaps;
- *train id*: the position in ``DatasetInfo.categories``, 0 .. C-1; 255 is ignored;
- *panoptic index*: things first, then stuff, each in train-id order. Instance models count
  things from 1 and keep 0 for background, as torchvision does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ImageId = int | str
Task = Literal["semantic", "instance", "panoptic"]
TASKS: tuple[Task, ...] = ("semantic", "instance", "panoptic")

Kind = Literal["trained", "submission", "control", "oracle"]
"""Where the predictions of a row come from; ``oracle``: a network and the ground truth together."""
UNRANKED: tuple[Kind, ...] = ("control", "oracle")
"""Rows that have seen the ground truth, or nothing: shown, but neither ranked nor compared."""

IGNORE_INDEX = 255
"""Train id of pixels that count nowhere (semantic label maps)."""
VOID = 0
"""Segment id of pixels that belong to no segment (panoptic id maps)."""

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Category:
    """One class of a dataset; its train id is its position in ``DatasetInfo.categories``."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]
    supercategory: str = ""


@dataclass(frozen=True)
class CategoryTable:
    """The classes of a dataset with the three numberings of this module's docstring."""

    categories: tuple[Category, ...]

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)

    @property
    def thing_train_ids(self) -> tuple[int, ...]:
        return tuple(i for i, category in enumerate(self.categories) if category.isthing)

    @property
    def stuff_train_ids(self) -> tuple[int, ...]:
        return tuple(i for i, category in enumerate(self.categories) if not category.isthing)

    @property
    def panoptic_order(self) -> tuple[int, ...]:
        """Train ids in panoptic-index order: things first, then stuff."""
        return self.thing_train_ids + self.stuff_train_ids

    @cached_property
    def category_ids(self) -> tuple[int, ...]:
        """Category id of each train id."""
        return tuple(category.id for category in self.categories)

    def train_id(self, category_id: int) -> int:
        """Return the train id of a category id; ``KeyError`` when it is unknown."""
        for train_id, category in enumerate(self.categories):
            if category.id == category_id:
                return train_id
        raise KeyError(category_id)


@dataclass(frozen=True)
class Archive:
    """One file of a dataset as its publisher offers it: where it is and how it is recognised."""

    name: str
    """File name under which it is kept; its suffix tells how it is unpacked."""
    urls: tuple[str, ...] = ()
    """Addresses of the same bytes, tried in order; empty where the user must supply the file."""
    num_bytes: int | None = None
    """Size as published; None where the publisher states none."""
    digest: str = ""
    """``sha256:<hex>`` or ``md5:<hex>`` as published; empty where the publisher states none."""
    unpack_to: str = ""
    """Folder inside the raw folder that receives the members; empty for the raw folder itself."""
    login: str = ""
    """Site that wants a login (``cityscapes``); empty for none."""
    manual: str = ""
    """What the user must do by hand where the licence forbids an automatic download."""
    nested: tuple[str, ...] = ()
    """Members that are archives themselves; each is unpacked into the folder it lies in."""
    optional: bool = False
    """Wanted only when the user asks for it by name."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before any of its files is there."""

    name: str
    display_name: str
    description: str
    categories: tuple[Category, ...]
    tasks: tuple[Task, ...]
    splits: Mapping[str, int | None]
    """Official number of images of each split; None where the user decides."""
    protocols: Mapping[Task, str]
    """Protocol id that scores each task unless a configuration names another."""
    licence: str
    citation: str
    homepage: str = ""
    layout: str = ""
    """What a user-supplied folder must contain, in words."""
    folder: Path | None = None
    """Folder with the files where the dataset itself names one; ``raw`` takes its place."""
    archives: tuple[Archive, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``prepare`` with their defaults; unknown ones are refused."""

    @property
    def table(self) -> CategoryTable:
        return CategoryTable(self.categories)


@dataclass(frozen=True)
class ImageRecord:
    """One image of a prepared split; paths are absolute, absent truths are None."""

    image_id: int
    image: Path
    width: int
    height: int
    semantic: Path | None = None
    """8-bit PNG of train ids, 255 ignored."""
    panoptic: Path | None = None
    """RGB PNG of segment ids, id = R + 256 G + 65536 B, 0 void."""

    @property
    def stem(self) -> str:
        return self.image.stem


@dataclass(frozen=True)
class Instances:
    """Objects of one image.

    ``masks`` bool [N, H, W]; ``labels`` int64 [N], see the producer for the numbering;
    ``boxes`` float32 [N, 4] as x1, y1, x2, y2; ``scores`` float32 [N] in [0, 1] for
    predictions, None for truth; ``iscrowd`` bool [N] for truth.
    """

    masks: BoolArray
    labels: IntArray
    boxes: FloatArray
    scores: FloatArray | None = None
    iscrowd: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map; ``label`` is a panoptic index when a model made it."""

    id: int
    label: int
    isthing: bool
    area: int
    iscrowd: bool = False
    score: float | None = None


@dataclass(frozen=True)
class PanopticMap:
    """``ids`` int32 [H, W] of segment ids (0 void) and the segments it shows."""

    ids: IntArray
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image, at the image's own size; absent tasks are None.

    ``semantic``: uint8 or uint16 [H, W] train ids. ``instances``: labels are thing
    numbers from 1 in thing order. ``panoptic``: segment labels are panoptic indices.
    """

    semantic: IntArray | None = None
    instances: Instances | None = None
    panoptic: PanopticMap | None = None


@dataclass(frozen=True)
class Sample:
    """One image with its ground truth, as the torch Dataset reads it from the prepared form.

    ``image`` uint8 [H, W, 3] RGB; ``semantic`` uint8 [H, W] train ids; ``instances``
    labels are thing numbers from 1 (crowds are left out when training).
    """

    record: ImageRecord
    image: IntArray
    semantic: IntArray | None = None
    instances: Instances | None = None
