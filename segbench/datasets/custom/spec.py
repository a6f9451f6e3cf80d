"""The YAML file that describes a user's folder, checked before a single image is read."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from segbench.core.checked_yaml import Strict
from segbench.core.paths import UserPath
from segbench.core.types import IGNORE_INDEX, Task

SPLIT = "{split}"
"""Stands for the folder of a split in ``images``, ``masks`` and the names of COCO files."""

REST = "train"
"""Split of the images that no share takes."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


NOT_STATED = "not stated"

Channel = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]
MaskFormat = Literal["index", "colors", "instance_ids"]


class ClassSpec(Strict):
    """One class; what is not given follows from its place in the list."""

    id: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Pixel value in masks, category id in COCO files."""
    color: Color | None = None
    """Colour in pictures, and in the masks themselves with ``mask_format: colors``."""
    thing: bool | None = None

    @field_validator("color", mode="before")
    @classmethod
    def _hex(cls, value: Any) -> Any:
        return rgb_of(value)


class CustomDataset(Strict):
    """Everything a dataset file can say; ``folder`` and ``classes`` are enough for many."""

    folder: UserPath
    """Where the files are: absolute, from ``~``, or relative to this file."""
    images: str = "images"
    """Folder of the photographs, or a pattern whose star is the name of an image."""
    masks: str | None = None
    """The same for the masks; default ``masks`` unless a COCO file is given. With
    ``coco_panoptic`` the folder of its PNGs (default: the JSON's name without suffix)."""
    mask_format: MaskFormat = "index"
    coco_instances: str | None = None
    """COCO instances JSON; file names in it are relative to ``images``."""
    coco_panoptic: str | None = None
    """COCO panoptic JSON."""
    classes: Annotated[dict[str, ClassSpec], Field(min_length=1, max_length=IGNORE_INDEX)]
    """Names in order, or each name with its id, its colour or all it has."""
    first_id: Annotated[int, Field(ge=0)] | None = None
    """Id of the first class without one: 0 in masks, 1 in COCO files."""
    ignore: tuple[int | Color, ...] | None = None
    """Pixel values (or colours) that count nowhere, by default 255; category ids to leave out."""
    splits: dict[str, float | str | None] = Field(default_factory=dict)
    """Names of sub-folders, shares of the images, or files that list names."""
    protocols: dict[Task, str] = Field(default_factory=dict)
    display_name: str = ""
    description: str = ""
    licence: str = NOT_STATED
    citation: str = NOT_STATED
    homepage: str = ""

    @field_validator("classes", mode="before")
    @classmethod
    def _class_entries(cls, value: Any) -> Any:
        if isinstance(value, list):
            return _unique(value)
        if isinstance(value, dict):
            return {name: _class_entry(entry) for name, entry in value.items()}
        return value

    @field_validator("ignore", mode="before")
    @classmethod
    def _ignore_entries(cls, value: Any) -> Any:
        return [rgb_of(v) for v in value] if isinstance(value, list) else [value]

    @field_validator("splits", mode="before")
    @classmethod
    def _split_entries(cls, value: Any) -> Any:
        if isinstance(value, list):
            if len(set(map(str, value))) < len(value):
                raise ValueError("a split is listed twice")
            return dict.fromkeys(map(str, value))
        return value

    @property
    def document(self) -> str | None:
        """COCO file that lists the images; None with plain masks."""
        return self.coco_panoptic or self.coco_instances

    @property
    def mask_pattern(self) -> str:
        """Folder or pattern of the masks, or folder of the panoptic PNGs."""
        default = "masks" if self.coco_panoptic is None else self.coco_panoptic[: -len(".json")]
        return self.masks or default

    @property
    def by_folder(self) -> bool:
        """Tell whether each split has a folder or a COCO file of its own."""
        return any(SPLIT in path for path in paths_of(self).values())

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each split, ``train`` taking the rest; empty without shares."""
        if self.by_folder:
            return {}
        given = self.splits or {"val": 0.2}
        return {name: share for name, share in given.items() if isinstance(share, float)}

    @property
    def split_names(self) -> tuple[str, ...]:
        """Return the splits, the training split first where it is the rest of shares."""
        if self.by_folder:
            return tuple(self.splits) or ("train", "val")
        names = tuple(self.splits) or ("val",)
        return names if not self.shares or REST in names else (REST, *names)

    @property
    def ids(self) -> dict[str, int]:
        """Return the pixel value or category id of each class."""
        first = self.first_id
        if first is None:
            first = 0 if self.document is None else 1
        return {
            name: first + place if entry.id is None else entry.id
            for place, (name, entry) in enumerate(self.classes.items())
        }

    @property
    def ignored(self) -> tuple[int | Color, ...]:
        """Return what counts nowhere; 255 unless it is a class or means something else."""
        if self.ignore is not None:
            return self.ignore
        plain = self.document is None and self.mask_format == "index"
        return (IGNORE_INDEX,) if plain and IGNORE_INDEX not in self.ids.values() else ()

    @property
    def things(self) -> tuple[bool, ...]:
        """Tell of each class whether it is of things."""
        entries = list(self.classes.values())
        marked = any(entry.thing is not None for entry in entries)
        if self.coco_panoptic is None and self.coco_instances is not None:
            return tuple(entry.thing is not False for entry in entries)
        if self.mask_format == "instance_ids" and not marked:
            return tuple(place == len(entries) - 1 for place in range(len(entries)))
        return tuple(entry.thing is True for entry in entries)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks whose ground truth the files hold."""
        if self.coco_panoptic is None and self.coco_instances is not None:
            return ("instance",)
        if self.coco_panoptic is None and self.mask_format != "instance_ids":
            return ("semantic",)
        if all(self.things) and self.coco_panoptic is None:
            return ("instance",)
        return ("semantic", "instance", "panoptic")


def rgb_of(value: Any) -> Any:
    """Return ``#rrggbb`` as three numbers; other values as they are."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ValueError("a colour is [red, green, blue] or '#rrggbb' in quotes")
    return tuple(int(value[i : i + 2], 16) for i in (1, 3, 5))


def _unique(names: list[Any]) -> dict[Any, Any]:
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"a class name is a text; put {name!r} in quotes")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"'{twice[0]}' is listed twice")
    return {name: {} for name in names}


def _class_entry(entry: Any) -> Any:
    """Return what is written after a class name as keys: an id, a colour, or keys already."""
    if entry is None:
        return {}
    if isinstance(entry, int) and not isinstance(entry, bool):
        return {"id": entry}
    return {"color": entry} if isinstance(entry, list | str) else entry


def paths_of(spec: CustomDataset) -> dict[str, str]:
    """Return every path of the file by its key, except the folder itself."""
    keys = ("images", "masks", "coco_instances", "coco_panoptic")
    return {key: path for key in keys if (path := getattr(spec, key)) is not None}
