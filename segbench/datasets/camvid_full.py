"""CamVid at its full size, 960x720: 701 frames with the original colour labels.

The 32 labelled classes are joined to the 11 that are scored as in SegNet's form; what belongs
to none of them is void. The split is SegNet's, which follows from the names of the frames:
val is the densely labelled stretch of sequence 0016E5, test is Seq05VD and the later half of
0001TP, train everything else. Brostow, Fauqueur, Cipolla, PRL 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, Archive, DatasetInfo, IntArray
from segbench.datasets.camvid import INFO as SMALL
from segbench.datasets.source import RawImage, SourceImage, files_by_stem, read_pair, refuse_folder
from segbench.formats.label_maps import read_image

_IMAGES, _LABELS = "701_StillsRaw_full", "LabeledApproved_full"
_SITE = "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData"
VAL_FRAMES = range(7959, 8160)
FIRST_TEST_FRAME = 8550

_COLORS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "Sky": ((128, 128, 128),),
    "Building": ((128, 0, 0), (64, 192, 0), (64, 0, 64), (0, 128, 64), (192, 0, 128)),
    "Pole": ((192, 192, 128), (0, 0, 64)),
    "Road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    "Pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    "Tree": ((128, 128, 0), (192, 192, 0)),
    "SignSymbol": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "Fence": ((64, 64, 128),),
    "Car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    "Pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    "Bicyclist": ((0, 128, 192), (192, 0, 192)),
}
"""Label colours joined in each scored class; black is void."""

INFO = DatasetInfo(
    name="camvid_full",
    display_name="CamVid 960x720",
    description="Street scenes filmed from a car at full size, 960x720, 11 classes and void.",
    categories=SMALL.categories,
    tasks=SMALL.tasks,
    splits=SMALL.splits,
    protocols=SMALL.protocols,
    licence=SMALL.licence,
    citation=SMALL.citation,
    homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid",
    layout=f"It must hold {_IMAGES}/ with the frames (<name>.png) and {_LABELS}/ with their "
    "colour labels (<name>_L.png).",
    archives=(
        Archive(f"{_IMAGES}.zip", (f"{_SITE}/files/{_IMAGES}.zip",)),
        Archive(f"{_LABELS}.zip", (f"{_SITE}/data/{_LABELS}.zip",), unpack_to=_LABELS),
    ),
)

_TRAIN_IDS = {
    color: train_id
    for train_id, category in enumerate(INFO.categories)
    for color in _COLORS[category.name]
} | {(0, 0, 0): IGNORE_INDEX}
_KEYS = np.array(sorted(_TRAIN_IDS), dtype=np.int64) @ [65536, 256, 1]
_VALUES = np.array([_TRAIN_IDS[color] for color in sorted(_TRAIN_IDS)], dtype=np.uint8)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the frames of every split; ``DataError`` when the folders are not there."""
    assert raw is not None
    del options
    images = files_by_stem(raw / _IMAGES)
    labels = {
        stem.removesuffix("_L"): path
        for stem, path in files_by_stem(raw / _LABELS, suffixes=(".png",)).items()
    }
    if not images and not labels:
        refuse_folder(raw, "is no full-size CamVid", INFO)
    splits: dict[str, list[SourceImage]] = {split: [] for split in INFO.splits}
    for stem in sorted({*images, *labels}):
        pair = (
            images.get(stem, raw / _IMAGES / f"{stem}.png"),
            labels.get(stem, raw / _LABELS / f"{stem}_L.png"),
        )
        splits[split_of(stem)].append(SourceImage(stem, partial(_load, *pair), pair))
    return splits


def split_of(stem: str) -> str:
    """Return the split of a frame by its name, ``<sequence>_<number>``.

    Raises:
        DataError: The name is not that of a CamVid frame.
    """
    sequence, _, frame = stem.partition("_")
    number = frame.removeprefix("f")
    if not number.isdigit():
        raise DataError(f"'{stem}' is not the name of a CamVid frame, <sequence>_<number>")
    if sequence == "0016E5" and int(number) in VAL_FRAMES:
        return "val"
    later = sequence == "0001TP" and int(number) >= FIRST_TEST_FRAME
    return "test" if later or sequence == "Seq05VD" else "train"


def _load(image: Path, label_file: Path) -> RawImage:
    size, colors = read_pair(image, label_file, read=read_image)
    return RawImage(image=image, size=size, semantic=_train_ids(colors, label_file))


def _train_ids(colors: IntArray, path: Path) -> IntArray:
    keys = colors.astype(np.int64) @ [65536, 256, 1]
    index = np.minimum(np.searchsorted(_KEYS, keys), len(_KEYS) - 1)
    unknown = keys[_KEYS[index] != keys]
    if unknown.size:
        found = [f"#{key:06x}" for key in np.unique(unknown)[:5].tolist()]
        raise DataError(
            f"{path.name} has colours that are no label: {', '.join(found)} "
            f"({unknown.size} pixels)",
            fix="take the labels as published; resized or JPEG-coded ones have mixed colours",
        )
    return _VALUES[index]
