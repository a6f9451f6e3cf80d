"""The YAML file that describes a user's folder, checked before a single image is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from segbench.config import Strict
from segbench.types import IGNORE_INDEX, Task

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

    folder: Path
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

    @model_validator(mode="after")
    def _consistent(self) -> CustomDataset:
        for problem in _problems(self):
            raise ValueError(problem)
        return self

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
        return any(SPLIT in path for path in _paths(self).values())

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
        """Return the tasks whose truth the files hold."""
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


def _paths(spec: CustomDataset) -> dict[str, str]:
    """Return every path of the file by its key, except the folder itself."""
    keys = ("images", "masks", "coco_instances", "coco_panoptic")
    return {key: path for key in keys if (path := getattr(spec, key)) is not None}


def _problems(spec: CustomDataset) -> Iterator[str]:
    """Yield what contradicts itself, the first one being the one to repair."""
    for key, path in _paths(spec).items():
        yield from _path_problems(key, path, pattern=key in ("images", "masks"))
    yield from _class_problems(spec)
    yield from _truth_problems(spec)
    yield from _ignore_problems(spec)
    yield from _split_problems(spec)
    unknown = [task for task in spec.protocols if task not in spec.tasks]
    if unknown:
        has = ", ".join(spec.tasks)
        yield f"protocols: there is no {unknown[0]} truth here, only {has}"


def _path_problems(key: str, path: str, *, pattern: bool) -> Iterator[str]:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "~" in parts[0]:
        yield (
            f"{key}: '{path}' must lie inside folder; "
            "name their common parent as folder and the rest here"
        )
    if set("?[]") & set(path) or set("{}") & set(path.replace(SPLIT, "")):
        yield f"{key}: '{path}': only *, ** and {SPLIT} stand for something"
    stars = path.replace("**/", "").count("*")
    if (stars and not pattern) or stars > 1 or (stars and "*" not in parts[-1]):
        yield (
            f"{key}: '{path}': one star stands for the name of an image, in the last part "
            "of the path (**/ before it stands for any folders)"
        )


def _class_problems(spec: CustomDataset) -> Iterator[str]:
    blank = [name for name in spec.classes if not name.strip()]
    if blank:
        yield "classes: a name is empty"
    for values, word in (
        (spec.ids, "id"),
        ({name: c.color for name, c in spec.classes.items() if c.color}, "colour"),
    ):
        seen: dict[Any, str] = {}
        for name, value in values.items():
            if value in seen:
                yield f"classes: '{seen[value]}' and '{name}' have the same {word} {value}"
            seen[value] = name
    if spec.document is not None and min(spec.ids.values()) < 1:
        yield "classes: category ids of COCO files count from 1"


def _truth_problems(spec: CustomDataset) -> Iterator[str]:
    if spec.coco_instances is not None and spec.coco_panoptic is None and spec.masks is not None:
        yield (
            "masks and coco_instances: give one of them; with both, which classes overlap "
            "cannot be told (coco_panoptic holds both truths)"
        )
    if spec.document is not None:
        yield from _coco_problems(spec)
        return
    lacking = [name for name, entry in spec.classes.items() if entry.color is None]
    if spec.mask_format == "colors" and lacking:
        yield f"classes: mask_format: colors needs the colour of '{lacking[0]}'"
    if spec.mask_format != "index":
        numbered = [name for name, entry in spec.classes.items() if entry.id is not None]
        if numbered or spec.first_id is not None:
            yield f"ids of classes mean nothing with mask_format: {spec.mask_format}"
    things = sum(spec.things)
    if spec.mask_format == "instance_ids" and (things != 1 or len(spec.classes) > 2):
        yield (
            "classes: mask_format: instance_ids takes one class of things, whose objects are "
            "numbered 1, 2, ..., and before it the class of pixel 0, if that is one"
        )


def _coco_problems(spec: CustomDataset) -> Iterator[str]:
    if spec.mask_format != "index":
        yield "mask_format: it is of plain masks, not of COCO files"
    for key, path in _paths(spec).items():
        if key.startswith("coco") and not path.endswith(".json"):
            yield f"{key}: '{path}' is no .json file"
    if "*" in spec.images or "*" in spec.mask_pattern:
        yield "images, masks: COCO files hold the names of images; give the folder, without *"
    if spec.coco_panoptic is None and not all(spec.things):
        yield "classes: a COCO instances file has things only; remove thing: false"
    if spec.coco_panoptic is not None and not any(spec.things):
        yield "classes: say which are things, as in {person: {id: 1, thing: true}}"
    panoptic = spec.coco_panoptic
    if panoptic is not None and SPLIT in panoptic and SPLIT not in spec.images:
        yield f"images: each panoptic file needs a folder of its own: put {SPLIT} in images"


def _ignore_problems(spec: CustomDataset) -> Iterator[str]:
    colors = spec.document is None and spec.mask_format == "colors"
    wrong = [v for v in spec.ignored if isinstance(v, tuple) != colors]
    if wrong:
        expected = "colours, as in [[0, 0, 0]]" if colors else "numbers, as in [255]"
        yield f"ignore: expected {expected}, found {wrong[0]}"
    if spec.coco_panoptic is not None and spec.ignored:
        yield "ignore: void pixels of COCO panoptic files are ignored already"
    named = {c.color for c in spec.classes.values()} if colors else set(spec.ids.values())
    both = [v for v in spec.ignored if v in named]
    if both and spec.mask_format != "instance_ids":
        yield f"ignore: {both[0]} is also a class"


def _split_problems(spec: CustomDataset) -> Iterator[str]:
    names = set(spec.split_names)
    bad = [name for name in names if not NAME.fullmatch(name)]
    if bad:
        yield f"splits: '{bad[0]}' is no name: letters, digits, _ . and - only"
    kinds = {type(value) for value in spec.splits.values()}
    if len(kinds) > 1:
        yield "splits: give shares, or list files, or names of folders, not a mixture"
    if spec.by_folder:
        if float in kinds:
            yield f"splits: shares are of one folder; remove {SPLIT} from the paths or the shares"
        if spec.document is None and SPLIT not in spec.images:
            yield f"images: masks differ by split, so images must: put {SPLIT} in both"
    elif type(None) in kinds:
        yield f"splits: names alone are sub-folders: put {SPLIT} where they stand, as in images: "
    yield from _share_problems(spec.shares)


def _share_problems(shares: Mapping[str, float]) -> Iterator[str]:
    total = sum(shares.values())
    wrong = [name for name, share in shares.items() if not 0 < share <= 1]
    if wrong:
        yield f"splits: the share of '{wrong[0]}' is {shares[wrong[0]]:g}, expected 0 to 1"
    if total > 1 + 1e-9 or (shares and REST not in shares and total > 1 - 1e-9):
        yield f"splits: the shares add up to {total:g} and leave nothing for {REST}"
    if REST in shares and abs(total - 1) > 1e-9:
        yield f"splits: the shares add up to {total:g}, not 1; leave {REST} out: it takes the rest"
