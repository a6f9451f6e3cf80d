"""Masks of every kind a user has, as train ids and objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, CategoryTable, IntArray
from segbench.datasets.custom.spec import CustomDataset
from segbench.datasets.reading.id_runs import relabel
from segbench.datasets.source import (
    RawImage,
    compose_panoptic,
    instances_from_masks,
    read_pair,
)
from segbench.formats.label_maps import read_image, read_label_map, rgb2id

SHOWN = 8
LOSSY = (".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class MaskRule:
    """What the pixels of a mask mean: the train id of each value, 255 where it is ignored.

    With ``colors`` a value is R + 256 G + 65536 B.
    """

    labels: Mapping[int, int]
    colors: bool = False


def mask_rule(spec: CustomDataset) -> MaskRule:
    """Return the meaning of the masks of a dataset whose pixels are classes."""
    colors = spec.mask_format == "colors"
    values = (
        [_code(entry.color) for entry in spec.classes.values() if entry.color is not None]
        if colors
        else list(spec.ids.values())
    )
    ignored = [_code(v) if isinstance(v, tuple) else v for v in spec.ignored]
    labels = dict.fromkeys(ignored, IGNORE_INDEX)
    return MaskRule(labels | {value: train_id for train_id, value in enumerate(values)}, colors)


def _code(color: tuple[int, int, int]) -> int:
    return color[0] + 256 * color[1] + 65536 * color[2]


def load_semantic(image: Path, mask: Path, rule: MaskRule) -> RawImage:
    """Read an image and its mask of classes.

    Raises:
        DataError: A file is missing or broken, sizes differ, or a value has no meaning.
    """
    size, labels = read_pair(image, mask, read=partial(_read_classes, rule=rule))
    return RawImage(image, size, labels)


def _read_classes(path: Path, rule: MaskRule) -> IntArray:
    if rule.colors and path.suffix.lower() in LOSSY:
        raise DataError(f"{path.name}: a lossy picture has no exact colours; masks are PNG")
    values = rgb2id(read_image(path)) if rule.colors else _read_numbers(path)
    flat = values.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    found = np.unique(flat[np.concatenate([[0], changes])]).tolist()
    unknown = [value for value in found if value not in rule.labels]
    if unknown:
        words = [_color_text(v) if rule.colors else str(v) for v in unknown]
        shown = ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
        kind = "colours" if rule.colors else "values"
        raise DataError(
            f"{path.name}: {kind} {shown} are neither a class nor ignored "
            f"(classes and ignore of the dataset's YAML file)"
        )
    return relabel(values, rule.labels, default=IGNORE_INDEX)


def _read_numbers(path: Path) -> IntArray:
    try:
        return read_label_map(path)
    except DataError as error:
        hint = "; masks of colours are read with mask_format: colors"
        raise DataError(error.what + hint * ("found mode RGB" in error.what)) from error


def _color_text(code: int) -> str:
    return f"#{code & 255:02x}{code >> 8 & 255:02x}{code >> 16 & 255:02x}"


@dataclass(frozen=True)
class ObjectRule:
    """What the numbers of an object mask mean: 0 is no object, 1, 2, ... are objects."""

    thing: int
    """Train id of the objects."""
    background: int | None
    """Train id of pixel 0; None where it is void."""
    ignored: tuple[int, ...]
    table: CategoryTable


def object_rule(spec: CustomDataset, table: CategoryTable) -> ObjectRule:
    """Return the meaning of the masks of a dataset whose pixels are object numbers."""
    stuff = table.stuff_train_ids
    ignored = tuple(value for value in spec.ignored if isinstance(value, int))
    return ObjectRule(table.thing_train_ids[0], stuff[0] if stuff else None, ignored, table)


def load_objects(image: Path, mask: Path, rule: ObjectRule) -> RawImage:
    """Read an image and its mask of object numbers.

    Raises:
        DataError: A file is missing or broken, or their sizes differ.
    """
    size, numbers = read_pair(image, mask)
    void = np.isin(numbers, rule.ignored)
    objects = np.unique(numbers[(numbers > 0) & ~void])
    masks = numbers == objects[:, None, None]
    instances = instances_from_masks(masks, [rule.thing] * len(objects))
    if rule.background is None:
        return RawImage(image, size, instances=instances)
    semantic = np.where(numbers > 0, rule.thing, rule.background).astype(np.uint8)
    semantic[void] = IGNORE_INDEX
    panoptic = compose_panoptic(semantic, instances, table=rule.table)
    return RawImage(image, size, semantic, instances, panoptic)
