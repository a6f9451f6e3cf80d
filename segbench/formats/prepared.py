"""The one on-disk form every dataset is turned into, and its reader.

    <root>/dataset.json                          written last: its presence means "complete"
    <root>/<split>.jsonl                         one image a line
    <root>/images/<split>/<stem>.<jpg|png>
    <root>/semantic/<split>/<stem>.png           8-bit train ids, 255 ignored
    <root>/annotations/instances_<split>.json    COCO instances, annotation ids from 1
    <root>/annotations/panoptic_<split>.json     COCO panoptic
    <root>/panoptic/<split>/<stem>.png           RGB segment ids

A dataset has the truths of its tasks only. File paths inside are relative to the root.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, cast

from segbench.core.errors import ConfigError, DataError, did_you_mean
from segbench.core.files import as_written, iter_jsonl, read_json, read_jsonl
from segbench.core.types import Category, CategoryTable, ImageRecord, Task

SCHEMA = 1


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared dataset on disk."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> PreparedDataset:
        """Open a prepared folder; a ``DataError`` says what to run when it is not one."""
        dataset = cls(Path(root).resolve())
        if not dataset.description_file.exists():
            raise DataError(
                f"{root} is not a prepared dataset: it has no dataset.json",
                fix=f"segbench prepare {Path(root).name} --out {root}",
            )
        description = read_json(dataset.description_file)
        wrong = _wrong_parts(description)
        if wrong:
            raise DataError(
                f"{dataset.description_file}: {wrong}",
                fix="prepare the dataset again with this version of segbench",
            )
        vars(dataset)["description"] = description  # what was opened stays what it was
        return dataset

    @property
    def description_file(self) -> Path:
        return self.root / "dataset.json"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Return the content of ``dataset.json``."""
        return cast(dict[str, Any], read_json(self.description_file))

    @property
    def name(self) -> str:
        return str(self.description["name"])

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(self.description["tasks"])

    @property
    def digest(self) -> str:
        """Digest over every file of every split, as ``prepare`` recorded it."""
        return str(self.description["digest"])

    @cached_property
    def table(self) -> CategoryTable:
        """Return the classes; position is train id."""
        return CategoryTable(
            tuple(
                Category(
                    id=c["id"],
                    name=c["name"],
                    isthing=bool(c["isthing"]),
                    color=(c["color"][0], c["color"][1], c["color"][2]),
                    supercategory=c.get("supercategory", ""),
                )
                for c in self.description["categories"]
            )
        )

    def protocol(self, task: Task) -> str:
        """Return the id of the protocol that scores ``task`` on this dataset by default."""
        protocols = self.description["protocols"]
        if task not in protocols:
            raise ConfigError(
                f"dataset '{self.name}' has no {task} truth; it has {', '.join(protocols)}"
            )
        return str(protocols[task])

    def refuse_unchecked(self, split: str) -> None:
        """Refuse a split that was not checked, or whose files have changed in size since.

        The sizes of all files are looked at, not their content: a few microseconds a file,
        which finds what is lost, cut or replaced. ``segbench check-data`` reads everything.

        Raises:
            DataError: Naming the files.
        """
        if "checked" not in self.description:
            raise DataError(
                f"{self.root} was prepared without being checked",
                fix=f"prepare it again: segbench prepare {self.name} --out {self.root}",
            )
        self._refuse_unknown(split)
        with as_written(self.root / f"{split}.jsonl", fix="prepare the dataset again"):
            changed = self._changed_files(split)
        if changed:
            shown = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
            raise DataError(
                f"{self.root}: {len(changed)} files of split '{split}' are missing or changed "
                f"since they were checked: {shown}",
                fix=f"segbench check-data {self.root} lists everything; preparing the dataset "
                "again repairs it",
            )

    def _changed_files(self, split: str) -> list[str]:
        return [
            row[key]
            for row in iter_jsonl(self.root / f"{split}.jsonl")
            for key, size in row["bytes"].items()
            if _size_of(self.root / row[key]) != size
        ]

    def images(self, split: str) -> list[ImageRecord]:
        """Return the images of a split in file order; ``ConfigError`` for an unknown split."""
        self._refuse_unknown(split)
        path = self.root / f"{split}.jsonl"
        try:
            return [self._record(row) for row in read_jsonl(path)]
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: a line is no image ({type(error).__name__}: {error})",
                fix="prepare the dataset again",
            ) from error

    def _refuse_unknown(self, split: str) -> None:
        splits = self.description["splits"]
        if split not in splits:
            raise ConfigError(
                f"dataset '{self.name}' has no split '{split}'.{did_you_mean(split, splits)}",
                fix=f"its splits are {', '.join(splits)}",
            )

    def _record(self, row: dict[str, Any]) -> ImageRecord:
        def path(key: str) -> Path | None:
            if not row.get(key):
                return None
            name = PurePosixPath(row[key])
            if name.is_absolute() or ".." in name.parts:
                raise TypeError(f"{key} {row[key]!r} is outside of the dataset")
            return self.root / name

        number = row["image_id"]
        if not isinstance(number, str) and not (isinstance(number, int) and number < 2**63):
            raise TypeError(f"image_id {number!r}")
        image = path("image")
        if image is None:
            raise KeyError("image")
        return ImageRecord(
            image_id=row["image_id"],
            image=image,
            width=row["width"],
            height=row["height"],
            semantic=path("semantic"),
            panoptic=path("panoptic"),
        )

    def instances_file(self, split: str) -> Path:
        """Return the COCO instances JSON of a split."""
        return self.root / "annotations" / f"instances_{split}.json"

    def panoptic_file(self, split: str) -> Path:
        """Return the COCO panoptic JSON of a split."""
        return self.root / "annotations" / f"panoptic_{split}.json"

    def panoptic_folder(self, split: str) -> Path:
        """Return the folder of panoptic PNGs of a split."""
        return self.root / "panoptic" / split


_PARTS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "digest": str,
    "tasks": list,
    "splits": dict,
    "categories": list,
    "protocols": dict,
}
"""Kind of each part of ``dataset.json`` that scoring reads."""


def _wrong_parts(description: Any) -> str:
    """Say what is wrong with a description; empty where nothing is."""
    if not isinstance(description, dict):
        return f"expected an object, found {type(description).__name__}"
    if description.get("schema") != SCHEMA:
        return f"expected schema {SCHEMA}, found {description.get('schema')}"
    wrong = [key for key, kind in _PARTS.items() if not isinstance(description.get(key), kind)]
    if wrong:
        return f"missing or of a wrong kind: {', '.join(wrong)}"
    strange = [t for t in description["tasks"] if t not in ("semantic", "instance", "panoptic")]
    if strange:
        return f"unknown tasks: {strange[:3]}"
    odd = [i for i, c in enumerate(description["categories"]) if not _is_category(c)]
    return f"categories {odd[:3]} lack an id, a name, isthing or a color" if odd else ""


def _is_category(entry: Any) -> bool:
    if not isinstance(entry, dict) or not {"id", "name", "isthing", "color"} <= entry.keys():
        return False
    color = entry["color"]
    right = isinstance(color, list) and len(color) == 3
    return right and all(isinstance(value, int) for value in (entry["id"], *color))


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
