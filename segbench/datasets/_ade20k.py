"""What the two ADE20K datasets share: where the files lie, and the reduced zero label.

Label maps hold 0 for everything outside the 150 classes and 1 to 150 for the classes; here, and
only here, 0 becomes the ignored 255 and the others move down by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import Archive, DatasetInfo, IntArray
from segbench.datasets.classes.ade20k import CATEGORIES
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    pair_by_stem,
    read_pair,
    refuse_folder,
)

TOP = "ADEChallengeData2016"
FOLDERS = {"train": "training", "val": "validation"}
"""Folder of each split in the archives."""
COUNTS = {"train": 20_210, "val": 2_000}
SCENES = Archive(
    f"{TOP}.zip",
    (f"http://data.csail.mit.edu/places/ADEchallenge/{TOP}.zip",),
    digest="md5:7328b3957e407ddae1d3cbf487f149ef",
)
LICENCE = "images: non-commercial research and education; annotations: BSD 3-Clause; see homepage"
CITATION = (
    "Zhou, Zhao, Puig, Fidler, Barriuso, Torralba, Scene parsing through ADE20K dataset, CVPR 2017"
)
HOMEPAGE = "http://sceneparsing.csail.mit.edu"


def split_sources(
    raw: Path, load: Callable[..., RawImage], truth_folders: tuple[str, ...], info: DatasetInfo
) -> Mapping[str, list[SourceImage]]:
    """Pair the photographs of both splits with one PNG of each truth folder.

    Raises:
        DataError: There is no photograph and no label map.
    """
    top = raw / TOP if (raw / TOP).is_dir() else raw
    splits: dict[str, list[SourceImage]] = {}
    for split, folder in FOLDERS.items():
        truths = [top / name / folder for name in truth_folders]
        splits[split] = pair_by_stem(top / "images" / folder, truths, load)
    if not any(splits.values()):
        refuse_folder(raw, "has no ADE20K split", info)
    return splits


def read_scene(image: Path, label_file: Path) -> tuple[tuple[int, int], IntArray]:
    """Read a photograph's size (height, width) and its ground truth as train ids.

    Raises:
        DataError: A file is broken, the sizes differ or a label is above 150.
    """
    size, labels = read_pair(image, label_file)
    if int(labels.max(initial=0)) > len(CATEGORIES):
        wrong = np.unique(labels[labels > len(CATEGORIES)])[:10]
        hint = " (255: was the zero label reduced already?)" if 255 in wrong else ""
        raise DataError(
            f"{label_file.name} has the labels {wrong.tolist()}{hint}; expected 0 for none and "
            f"1 to {len(CATEGORIES)}"
        )
    reduced: IntArray = labels.astype(np.uint8) - np.uint8(1)  # 0 - 1 is 255 in 8 bits
    return size, reduced
