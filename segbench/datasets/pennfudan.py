"""Penn-Fudan: pedestrians in street photographs, one mask a person.

There is no official split. Here an image belongs to val when the sha256 of its name, read
as a fraction, is below 0.3: of the 170 images 124 train and 46 val. The rule looks at one
name at a time, so images that are missing do not move the others.
Wang, Shi, Song, Shen, ACCV 2007.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.types import Category, DatasetInfo
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    compose_panoptic,
    files_by_stem,
    instances_from_masks,
    read_pair,
    refuse_folder,
)

PERSON, BACKGROUND = 0, 1
VAL_FRACTION = 0.3
FOLDERS = (("PNGImages", "PedMasks"), ("images", "masks"))
"""Names of the two folders in the published archive, and plain ones."""

INFO = DatasetInfo(
    name="pennfudan",
    display_name="Penn-Fudan pedestrians",
    description="Pedestrians in street photographs: one class of things, one mask a person.",
    categories=(
        Category(id=1, name="person", isthing=True, color=(230, 159, 0), supercategory="person"),
        Category(id=2, name="background", isthing=False, color=(60, 80, 110)),
    ),
    tasks=("semantic", "instance", "panoptic"),
    splits={"train": None, "val": None},
    protocols={
        "semantic": "pennfudan-2",
        "instance": "coco-instances",
        "panoptic": "coco-panoptic",
    },
    licence="for academic use; see the homepage",
    citation="Wang, Shi, Song, Shen, Object detection combining recognition and segmentation, "
    "ACCV 2007",
    homepage="https://www.cis.upenn.edu/~jshi/ped_html/",
    layout="It must hold PNGImages/ and PedMasks/ as the published archive does, or images/ and "
    "masks/: photographs (.png or .jpg) and masks <name>_mask.png (one channel, 0 background, "
    "1, 2, ... one number a person).",
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of both splits; ``DataError`` when the folders are not there."""
    assert raw is not None
    del options
    present = [pair for pair in FOLDERS if any((raw / folder).is_dir() for folder in pair)]
    if len(present) != 1:
        refuse_folder(raw, "is not a Penn-Fudan folder", INFO)
    splits: dict[str, list[SourceImage]] = {"train": [], "val": []}
    image_folder, mask_folder = (raw / folder for folder in present[0])
    images = files_by_stem(image_folder)
    masks = {
        stem.removesuffix("_mask"): path
        for stem, path in files_by_stem(mask_folder, suffixes=(".png",)).items()
    }
    for stem in sorted({*images, *masks}):
        pair = (
            images.get(stem, image_folder / f"{stem}.png"),
            masks.get(stem, mask_folder / f"{stem}_mask.png"),
        )
        splits[split_of(stem)].append(SourceImage(stem, partial(_load, *pair), pair))
    return splits


def split_of(stem: str) -> str:
    """Return ``val`` or ``train`` for the name of an image, without its suffix."""
    number = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big")
    return "val" if number / 2**64 < VAL_FRACTION else "train"


def _load(image: Path, mask_file: Path) -> RawImage:
    size, numbers = read_pair(image, mask_file)
    people = np.unique(numbers[numbers > 0])
    masks = numbers == people[:, None, None]
    instances = instances_from_masks(masks, [PERSON] * len(people))
    semantic = np.where(numbers > 0, PERSON, BACKGROUND).astype(np.uint8)
    return RawImage(
        image=image,
        size=size,
        semantic=semantic,
        instances=instances,
        panoptic=compose_panoptic(semantic, instances, table=INFO.table),
    )
