"""COCO-Stuff: every pixel of COCO 2017 labelled, 80 things and 91 classes of stuff.

Label maps hold the category number less one, 0 to 181 with gaps, and 255 for no label.
Caesar, Uijlings, Ferrari, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, Archive, DatasetInfo
from segbench.datasets.classes.coco_stuff import CATEGORIES
from segbench.datasets.coco2017 import INFO as COCO
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    files_by_stem,
    pair_by_stem,
    read_pair,
    refuse_folder,
)

_MAPS = "stuffthingmaps"

INFO = DatasetInfo(
    name="coco_stuff",
    display_name="COCO-Stuff",
    description="Photographs of everyday scenes, every pixel in one of 171 classes.",
    categories=CATEGORIES,
    tasks=("semantic",),
    splits=COCO.splits,
    protocols={"semantic": "coco-stuff"},
    licence="annotations: CC BY 4.0; images: under the terms of their owners on Flickr",
    citation="Caesar, Uijlings, Ferrari, COCO-Stuff: thing and stuff classes in context, CVPR 2018",
    homepage="https://github.com/nightrome/cocostuff",
    layout="It must hold train2017/ and val2017/ with the photographs, and stuffthingmaps/ with "
    "train2017/ and val2017/ of label maps (<name>.png). A split may be absent.",
    archives=(
        *COCO.archives[:2],
        Archive(
            f"{_MAPS}_trainval2017.zip",
            (
                "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
                f"{_MAPS}_trainval2017.zip",
            ),
            unpack_to=_MAPS,
        ),
    ),
)

_TRAIN_IDS = np.full(256, -1, dtype=np.int16)
_TRAIN_IDS[IGNORE_INDEX] = IGNORE_INDEX
_TRAIN_IDS[[category.id - 1 for category in CATEGORIES]] = np.arange(len(CATEGORIES))


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    splits = {split: _split(raw, f"{split}2017") for split in INFO.splits}
    if not any(splits.values()):
        refuse_folder(raw, "has no COCO-Stuff split", INFO)
    return splits


def _split(raw: Path, folder: str) -> list[SourceImage]:
    maps = raw / _MAPS / folder
    if not files_by_stem(maps, suffixes=(".png",)):
        return []
    return [
        replace(item, image_id=int(item.stem) if item.stem.isdigit() else None)
        for item in pair_by_stem(raw / folder, [maps], _load)
    ]


def _load(image: Path, label_file: Path) -> RawImage:
    size, labels = read_pair(image, label_file)
    train_ids = _TRAIN_IDS[labels] if int(labels.max(initial=0)) < 256 else np.array(-1)
    if (train_ids < 0).any():
        numbers = np.unique(labels)
        wrong = [n for n in numbers.tolist() if n > IGNORE_INDEX or _TRAIN_IDS[n] < 0]
        raise DataError(
            f"{label_file.name} has the labels {wrong[:10]}; expected category numbers less one, "
            "0 to 181 without the 11 unused ones, and 255"
        )
    return RawImage(image=image, size=size, semantic=train_ids.astype(np.uint8))
