"""Cityscapes: street scenes of 50 cities, finely annotated: 19 classes, 8 of them things.

Truth is read from the label ids and instance ids of gtFine. The 19 evaluated labels become
train ids, all others are ignored. Numbers from 1000 are instances (label id times 1000 plus a
counter); a region of a thing class with a smaller number is a group and becomes a crowd, as in
the official panoptic conversion. The ground truth of the test split is not public.
Cordts et al., CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, Archive, DatasetInfo, IntArray, PanopticMap, Segment
from segbench.datasets.classes.cityscapes import CLASSES
from segbench.datasets.reading.id_runs import thing_annotations
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    files_by_stem,
    read_pair,
    refuse_folder,
    require_size,
)
from segbench.formats.label_maps import read_label_map

MAX_LABEL_ID = 33
FIRST_INSTANCE = 1000
_IMAGE, _LABELS, _INSTANCES = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_instanceIds"
_SITE = "https://www.cityscapes-dataset.com/file-handling/?packageID="

INFO = DatasetInfo(
    name="cityscapes",
    display_name="Cityscapes",
    description="Street scenes of 50 cities, 2048x1024, 19 evaluated classes, 8 of them things.",
    categories=CLASSES,
    tasks=("semantic", "instance", "panoptic"),
    splits={"train": 2975, "val": 500},
    protocols={
        "semantic": "cityscapes-fine",
        "instance": "cityscapes-instances",
        "panoptic": "cityscapes-panoptic",
    },
    licence="for non-commercial research after registration; see the homepage",
    citation="Cordts et al., The Cityscapes dataset for semantic urban scene understanding, "
    "CVPR 2016",
    homepage="https://www.cityscapes-dataset.com",
    layout="It must hold leftImg8bit/<split>/<city>/<name>_leftImg8bit.png and "
    "gtFine/<split>/<city>/<name>_gtFine_labelIds.png and <name>_gtFine_instanceIds.png, as the "
    "two archives unpack. A split may be absent.",
    archives=(
        Archive(
            "gtFine_trainvaltest.zip",
            (f"{_SITE}1",),
            digest="md5:4237c19de34c8a376e9ba46b495d6f66",
            login="cityscapes",
        ),
        Archive(
            "leftImg8bit_trainvaltest.zip",
            (f"{_SITE}3",),
            digest="md5:0a6e97e94b616a514066c9e2adb0c97f",
            login="cityscapes",
        ),
    ),
)

_TRAIN_IDS = np.full(MAX_LABEL_ID + 1, IGNORE_INDEX, dtype=np.uint8)
_TRAIN_IDS[list(INFO.table.category_ids)] = np.arange(len(CLASSES))


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    splits = {split: _split(raw, split) for split in INFO.splits}
    if not any(splits.values()):
        refuse_folder(raw, "has no Cityscapes split", INFO)
    return splits


def _split(raw: Path, split: str) -> list[SourceImage]:
    """Pair photographs with their ground truth by city and name; what lacks a partner is kept."""
    images = _by_name(raw / "leftImg8bit" / split, _IMAGE)
    labels = _by_name(raw / "gtFine" / split, _LABELS)
    instances = _by_name(raw / "gtFine" / split, _INSTANCES)
    found = []
    for name in sorted({*images, *labels, *instances}):
        city = name.split("_")[0]
        truth = raw / "gtFine" / split / city
        files = (
            images.get(name, raw / "leftImg8bit" / split / city / f"{name}{_IMAGE}.png"),
            labels.get(name, truth / f"{name}{_LABELS}.png"),
            instances.get(name, truth / f"{name}{_INSTANCES}.png"),
        )
        found.append(SourceImage(name, partial(_load, *files), files))
    return found


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    cities = sorted(folder.iterdir()) if folder.is_dir() else []
    return {
        stem.removesuffix(ending): path
        for city in cities
        for stem, path in files_by_stem(city, suffixes=(".png",)).items()
        if stem.endswith(ending)
    }


def _load(image: Path, label_file: Path, instance_file: Path) -> RawImage:
    size, labels = read_pair(image, label_file)
    ids = read_label_map(instance_file)
    require_size(ids, instance_file, size)
    semantic = _semantic(labels, label_file)
    panoptic = _panoptic(ids, instance_file)
    things = thing_annotations(panoptic, INFO.table)
    return RawImage(image, size, semantic, panoptic=panoptic, annotations=things)


def _semantic(labels: IntArray, path: Path) -> IntArray:
    """Return train ids of label ids; 255 in a file is the licence plate's -1 as 8 bits."""
    numbers = np.unique(labels)
    outside = numbers[(numbers > MAX_LABEL_ID) & (numbers != IGNORE_INDEX)]
    if outside.size:
        raise DataError(
            f"{path.name} has the labels {outside.tolist()[:10]}; expected label ids "
            f"0 to {MAX_LABEL_ID}"
        )
    lut = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    lut[: MAX_LABEL_ID + 1] = _TRAIN_IDS
    return lut[labels]


def _panoptic(ids: IntArray, path: Path) -> PanopticMap:
    """Keep the segments of evaluated classes under their own numbers; all else is void."""
    segments = []
    kept = np.zeros(ids.shape, dtype=np.int32)
    for number, area in zip(*np.unique(ids, return_counts=True), strict=True):
        label_id = int(number) // FIRST_INSTANCE if number >= FIRST_INSTANCE else int(number)
        if label_id > MAX_LABEL_ID:
            if number == np.iinfo(ids.dtype).max:
                continue  # the licence plate's -1
            raise DataError(f"{path.name} has the instance id {number}: no label {label_id}")
        train_id = int(_TRAIN_IDS[label_id])
        if train_id == IGNORE_INDEX:
            continue
        isthing = CLASSES[train_id].isthing
        crowd = isthing and number < FIRST_INSTANCE
        segments.append(Segment(int(number), train_id, isthing, int(area), crowd))
        kept[ids == number] = number
    return PanopticMap(kept, tuple(segments))
