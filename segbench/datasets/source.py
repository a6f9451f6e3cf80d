"""What a dataset file hands over: images with their ground truth, loaded one at a time.

A dataset is one Python file in this folder (or in a folder of ``SEGBENCH_DATASETS_PATH``) with

- ``INFO``: a :class:`DatasetInfo`; its name is the name of the file;
- ``sources(raw, options)``: the images of every split as ``{split: [SourceImage, ...]}``.
  ``raw`` is the user's folder (None for a dataset that is generated), ``options`` holds
  every option of ``INFO.options``.

All that such a file needs of segbench is imported from here (``__all__``).
``SourceImage.load`` runs once an image, in order; a ``DataError`` it raises becomes one line
of the list of findings, so a broken folder is described in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import (
    IGNORE_INDEX,
    Archive,
    BoolArray,
    Category,
    CategoryTable,
    DatasetInfo,
    Instances,
    IntArray,
    PanopticMap,
    Segment,
)
from segbench.formats.label_maps import read_image, read_label_map

__all__ = [
    "IGNORE_INDEX",
    "IMAGE_SUFFIXES",
    "Archive",
    "BoolArray",
    "Category",
    "CategoryTable",
    "ConfigError",
    "DataError",
    "DatasetInfo",
    "DatasetModule",
    "Instances",
    "IntArray",
    "PanopticMap",
    "RawImage",
    "Segment",
    "SourceImage",
    "compose_panoptic",
    "files_by_stem",
    "instances_from_masks",
    "pair_by_stem",
    "read_image",
    "read_label_map",
    "read_pair",
    "refuse_folder",
    "require_size",
]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class RawImage:
    """One image with its ground truth; every label in it is a train id.

    ``image`` is uint8 RGB [H, W, 3], or the path of a file to take over byte for byte;
    ``semantic`` is uint8 [H, W] with 255 ignored. Absent truths are None.
    """

    image: IntArray | Path
    size: tuple[int, int]
    """Height and width in pixels."""
    semantic: IntArray | None = None
    instances: Instances | None = None
    panoptic: PanopticMap | None = None
    annotations: Sequence[Mapping[str, Any]] | None = None
    """COCO annotations to keep as published instead of ``instances``: ``category_id``,
    ``segmentation`` (compressed RLE), ``area``, ``bbox`` and ``iscrowd`` of each object."""


@dataclass(frozen=True)
class SourceImage:
    """One image of a split before it is read."""

    stem: str
    """File name without suffix, unique in its split."""
    load: Callable[[], RawImage]
    files: tuple[Path, ...] = ()
    """Files that ``load`` reads; their content decides whether to prepare again."""
    image_id: int | None = None
    """Official number of the image; None counts from 1 in each split."""


class DatasetModule(Protocol):
    """The two names a dataset file has."""

    INFO: DatasetInfo

    def sources(
        self, raw: Path | None, options: Mapping[str, Any]
    ) -> Mapping[str, Sequence[SourceImage]]:
        """Return the images of every split."""


def instances_from_masks(masks: BoolArray, labels: Sequence[int]) -> Instances:
    """Return instances of masks [N, H, W], none of them empty, with their tight boxes."""
    boxes = np.array([_box(mask) for mask in masks], dtype=np.float32).reshape(-1, 4)
    return Instances(masks=masks, labels=np.asarray(labels, dtype=np.int64), boxes=boxes)


def _box(mask: BoolArray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def compose_panoptic(
    semantic: IntArray, instances: Instances, *, table: CategoryTable
) -> PanopticMap:
    """Return the panoptic map of a label map and disjoint instance masks.

    Segments are numbered from 1: instances in their order, then the stuff classes that are
    visible. Ignored pixels and pixels of things without an instance stay void.
    """
    ids = np.zeros(semantic.shape, dtype=np.int32)
    labels = [int(label) for label in instances.labels]
    for number, mask in enumerate(instances.masks, start=1):
        ids[mask] = number
    present = np.bincount(semantic[ids == 0].ravel(), minlength=IGNORE_INDEX + 1)
    for train_id in table.stuff_train_ids:
        if present[train_id]:
            labels.append(train_id)
            ids[(semantic == train_id) & (ids == 0)] = len(labels)
    areas = np.bincount(ids.ravel(), minlength=len(labels) + 1)
    segments = tuple(
        Segment(number, label, table.categories[label].isthing, int(areas[number]))
        for number, label in enumerate(labels, start=1)
    )
    return PanopticMap(ids, segments)


def files_by_stem(folder: Path, *, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Return the files of a folder by stem, sorted; an absent folder has none.

    Raises:
        DataError: Two files have the same stem.
    """
    found: dict[str, Path] = {}
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in entries:
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(
                    f"{folder} has two files for '{path.stem}': "
                    f"{found[path.stem].name} and {path.name}",
                    fix="keep one of them",
                )
            found[path.stem] = path
    return found


def read_pair(
    image: Path, labels: Path, *, read: Callable[[Path], IntArray] = read_label_map
) -> tuple[tuple[int, int], IntArray]:
    """Read an image and its label map; return their size (height, width) and the labels.

    ``read`` takes the labels out of their file where that is not a PNG.

    Raises:
        DataError: Naming each file that is missing or broken, or the two sizes that differ.
    """
    findings: list[str] = []
    arrays: list[IntArray] = []
    for path, reader in ((image, read_image), (labels, read)):
        try:
            arrays.append(reader(path))
        except DataError as error:
            findings.append(error.what)
    if findings:
        raise DataError("; ".join(findings))
    (height, width), found = arrays[0].shape[:2], arrays[1]
    require_size(found, labels, (height, width), image=f"the image {image.name} is")
    return (height, width), found


def require_size(
    found: IntArray, path: Path, size: tuple[int, int], *, image: str = "the image"
) -> None:
    """Refuse the content [H, W, ...] of a file that is not of ``size`` (height, width).

    Raises:
        DataError: Naming the file, both sizes and, in the words of ``image``, what it was held
            against.
    """
    if found.shape[:2] != size:
        raise DataError(
            f"{path.name} is {found.shape[1]}x{found.shape[0]}, {image} {size[1]}x{size[0]}"
        )


def refuse_folder(raw: Path, complaint: str, info: DatasetInfo) -> NoReturn:
    """Say what a raw folder lacks or is not, what it holds, and what the layout is.

    Raises:
        DataError: Always.
    """
    found = ", ".join(sorted(path.name for path in raw.iterdir())[:10]) or "nothing"
    raise DataError(f"{raw} {complaint}; it holds {found}. {info.layout}")


def pair_by_stem(
    images: Path,
    truths: Sequence[Path],
    load: Callable[..., RawImage],
    *,
    suffix: str = ".jpg",
) -> list[SourceImage]:
    """Return the photographs of a folder, each with the PNG of its name in every truth folder.

    What lacks a partner is kept, under the name the partner would have (``suffix`` for a
    photograph), so that loading it names the file. ``load`` takes the files in order.
    """
    folders = (images, *truths)
    found = [files_by_stem(images), *(files_by_stem(t, suffixes=(".png",)) for t in truths)]
    endings = (suffix, *[".png"] * len(truths))
    sources = []
    for stem in sorted(set().union(*found)):
        files = tuple(
            here.get(stem, folder / f"{stem}{ending}")
            for here, folder, ending in zip(found, folders, endings, strict=True)
        )
        sources.append(SourceImage(stem, partial(load, *files), files))
    return sources
