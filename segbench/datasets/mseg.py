"""MSeg: five data sets as one, their classes merged into 194.

The raw folder holds the raw folders of its parts, by name; each part is read as it is on its
own, and its train ids are exchanged for MSeg's. The published MSeg also has BDD and IDD, and
masks corrected by hand; scores on this set do not compare with those on the corrected one.
Lambert, Liu, Sener, Hays, Koltun, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import ConfigError, DataError, did_you_mean
from segbench.core.types import IGNORE_INDEX, CategoryTable, DatasetInfo, IntArray
from segbench.datasets import ade20k, cityscapes, coco2017, mapillary_v12, sunrgbd
from segbench.datasets.classes.mseg import CATEGORIES, PARTS, train_ids
from segbench.datasets.source import DatasetModule, RawImage, SourceImage

_MODULES: Mapping[str, DatasetModule] = {
    "coco2017": coco2017,
    "ade20k": ade20k,
    "mapillary_v12": mapillary_v12,
    "cityscapes": cityscapes,
    "sunrgbd": sunrgbd,
}
_OPTIONS = {"coco2017": {"instances": "panoptic"}}
"""Options of the parts: instances are not needed, so neither is their file."""
_SPLITS = {"train": ("train",), "val": ("val", "test")}
"""Splits of the parts that make up each split; SUN RGB-D has test and no val."""

INFO = DatasetInfo(
    name="mseg",
    display_name="MSeg",
    description="COCO, ADE20K, Mapillary Vistas, Cityscapes and SUN RGB-D in one taxonomy of "
    "194 classes.",
    categories=CATEGORIES,
    tasks=("semantic",),
    splits={
        split: sum(_MODULES[part].INFO.splits.get(name) or 0 for part in PARTS for name in names)
        for split, names in _SPLITS.items()
    },
    protocols={"semantic": "mseg-194"},
    licence="that of each part",
    citation="Lambert, Liu, Sener, Hays, Koltun, MSeg: a composite dataset for multi-domain "
    "semantic segmentation, CVPR 2020",
    homepage="https://github.com/mseg-dataset/mseg-api",
    layout="It must hold the raw folders of its parts: " + ", ".join(f"{p}/" for p in PARTS) + ". "
    "Each has the layout of that data set; `segbench datasets show NAME` tells it. The option "
    "parts names the ones to take, separated by '+'.",
    options={"parts": "+".join(PARTS)},
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of all parts, their labels exchanged for MSeg's.

    Raises:
        ConfigError: An unknown part.
        DataError: A part that is wanted is not there, or is broken.
    """
    assert raw is not None
    splits: dict[str, list[SourceImage]] = {split: [] for split in _SPLITS}
    for part in _parts(options["parts"]):
        if not (raw / part).is_dir():
            raise DataError(
                f"{raw} has no folder '{part}', the raw files of that data set. {INFO.layout}",
                fix=f"segbench download {part} --raw {raw / part}, or set the option parts",
            )
        module = _MODULES[part]
        found = module.sources(raw / part, {**module.INFO.options, **_OPTIONS.get(part, {})})
        for split, names in _SPLITS.items():
            items = (item for name in names for item in found.get(name, ()))
            splits[split] += [_exchanged(part, item) for item in items]
    return splits


def _parts(text: str) -> list[str]:
    names = [name for name in text.split("+") if name]
    for name in names:
        if name not in PARTS:
            raise ConfigError(
                f"dataset 'mseg', option 'parts': unknown part '{name}'."
                f"{did_you_mean(name, PARTS)}",
                fix=f"its parts: {'+'.join(PARTS)}",
            )
    if not names:
        raise ConfigError("dataset 'mseg', option 'parts': expected at least one part")
    return names


def _exchanged(part: str, item: SourceImage) -> SourceImage:
    """Return an image of a part under a name of its own, with MSeg's labels."""
    load = partial(_load, item.load, part)
    return replace(item, stem=f"{part}-{item.stem}", load=load, image_id=None)


def _load(load: Callable[[], RawImage], part: str) -> RawImage:
    raw = load()
    assert raw.semantic is not None, part
    lut = exchange_table(part, _MODULES[part].INFO.table)
    return RawImage(image=raw.image, size=raw.size, semantic=lut[raw.semantic])


def exchange_table(part: str, table: CategoryTable) -> IntArray:
    """Return the MSeg train id of each train id of a part; 255 for classes MSeg leaves out."""
    merged = train_ids(part)
    lut = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.uint8)
    for train_id, name in enumerate(table.names):
        lut[train_id] = merged.get(name, IGNORE_INDEX)
    return lut
