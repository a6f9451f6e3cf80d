"""ADE20K scene parsing: photographs of all kinds of scenes with 150 classes, the 2016 benchmark.

Zhou et al., CVPR 2017. Truth with instances: dataset ``ade20k_panoptic``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.core.types import DatasetInfo
from segbench.datasets import _ade20k
from segbench.datasets.classes.ade20k import CATEGORIES
from segbench.datasets.source import RawImage, SourceImage

INFO = DatasetInfo(
    name="ade20k",
    display_name="ADE20K",
    description="Photographs of indoor and outdoor scenes, 150 classes (scene parsing benchmark).",
    categories=CATEGORIES,
    tasks=("semantic",),
    splits=_ade20k.COUNTS,
    protocols={"semantic": "ade20k-150"},
    licence=_ade20k.LICENCE,
    citation=_ade20k.CITATION,
    homepage=_ade20k.HOMEPAGE,
    layout="It must hold ADEChallengeData2016/ as the archive does: images/training, "
    "images/validation, annotations/training and annotations/validation with .jpg photographs and "
    ".png label maps of the same names (0 none, 1 to 150 the classes). A split may be absent.",
    archives=(_ade20k.SCENES,),
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    return _ade20k.split_sources(raw, _load, ("annotations",), INFO)


def _load(image: Path, label_file: Path) -> RawImage:
    size, semantic = _ade20k.read_scene(image, label_file)
    return RawImage(image=image, size=size, semantic=semantic)
