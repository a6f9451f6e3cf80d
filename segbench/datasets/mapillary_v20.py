"""Mapillary Vistas with the labels of version 2.0: 123 classes and unlabeled, semantic truth.

Neuhold, Ollmann, Rota Bulò, Kontschieder, ICCV 2017; labels of the release of 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.core.types import DatasetInfo
from segbench.datasets import _mapillary
from segbench.datasets.classes.mapillary import V20
from segbench.datasets.source import RawImage, SourceImage

INFO = DatasetInfo(
    name="mapillary_v20",
    display_name="Mapillary Vistas 2.0",
    description="Street scenes from all over the world, 123 classes.",
    categories=V20,
    tasks=("semantic",),
    splits=_mapillary.COUNTS,
    protocols={"semantic": "mapillary-v2.0"},
    licence=_mapillary.LICENCE,
    citation=_mapillary.CITATION,
    homepage=_mapillary.HOMEPAGE,
    layout="It must hold config_v2.0.json, training/ and validation/, each with images/ (.jpg) "
    "and v2.0/labels/ (.png).",
    archives=(_mapillary.archive("v2.0"),),
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    return _mapillary.split_sources(raw, "v2.0", ("labels",), _load, INFO)


def _load(image: Path, label_file: Path) -> RawImage:
    size, semantic = _mapillary.read_scene(image, label_file, len(V20))
    return RawImage(image=image, size=size, semantic=semantic)
