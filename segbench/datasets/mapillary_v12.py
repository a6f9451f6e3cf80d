"""Mapillary Vistas with the 65 scored labels of version 1.2, 37 of them things.

An instance file holds label times 256 plus the number of the object in its class. Panoptic
truth puts the objects over the stuff of the label map; a thing without an object is void.
Neuhold, Ollmann, Rota Bulò, Kontschieder, ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import DatasetInfo, Instances, IntArray
from segbench.datasets import _mapillary
from segbench.datasets.classes.mapillary import V12
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    compose_panoptic,
    instances_from_masks,
    require_size,
)
from segbench.formats.label_maps import read_label_map

INFO = DatasetInfo(
    name="mapillary_v12",
    display_name="Mapillary Vistas 1.2",
    description="Street scenes from all over the world, 65 scored classes, 37 of them things.",
    categories=V12,
    tasks=("semantic", "instance", "panoptic"),
    splits=_mapillary.COUNTS,
    protocols={
        "semantic": "mapillary-v1.2",
        "instance": "coco-instances",
        "panoptic": "coco-panoptic",
    },
    licence=_mapillary.LICENCE,
    citation=_mapillary.CITATION,
    homepage=_mapillary.HOMEPAGE,
    layout="It must hold config.json or config_v1.2.json, training/ and validation/, each with "
    "images/ (.jpg), and labels/ and instances/ (.png) or v1.2/labels/ and v1.2/instances/.",
    archives=(_mapillary.archive("v1.2"),),
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    kinds = ("labels", "instances")
    return _mapillary.split_sources(raw, "v1.2", kinds, _load, INFO)


def _load(image: Path, label_file: Path, instance_file: Path) -> RawImage:
    size, semantic = _mapillary.read_scene(image, label_file, len(V12))
    numbers = read_label_map(instance_file)
    require_size(numbers, instance_file, size)
    instances = _instances(numbers, instance_file)
    panoptic = compose_panoptic(semantic, instances, table=INFO.table)
    return RawImage(image, size, semantic, instances, panoptic)


def _instances(numbers: IntArray, path: Path) -> Instances:
    present = np.unique(numbers)
    if int(present[-1]) >> 8 > len(V12):
        raise DataError(
            f"{path.name} has the number {present[-1]}, of label {present[-1] >> 8}; "
            f"expected labels 0 to {len(V12)} times 256 plus a counter"
        )
    things = [n for n in present if n >> 8 < len(V12) and V12[n >> 8].isthing]
    masks = numbers == np.array(things, dtype=numbers.dtype)[:, None, None]
    return instances_from_masks(masks, [int(number) >> 8 for number in things])
