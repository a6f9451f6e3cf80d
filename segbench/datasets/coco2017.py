"""COCO 2017: photographs of everyday scenes with 80 things and 53 stuff classes.

Semantic truth is the panoptic truth without its instances. Instance truth is that of the
instances files, where objects may overlap: masks, areas and boxes stay as published, so that
the 12 numbers equal those of pycocotools on the original file. With the option
``instances: panoptic`` it is made of the panoptic truth instead.
Lin et al., ECCV 2014; Kirillov, He, Girshick, Rother, Dollár, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import Archive, DatasetInfo
from segbench.datasets.classes.coco import CATEGORIES
from segbench.datasets.reading.coco_json import panoptic_sources
from segbench.datasets.source import SourceImage, refuse_folder

_SITE = "http://images.cocodataset.org"

INFO = DatasetInfo(
    name="coco2017",
    display_name="COCO 2017",
    description="Photographs of everyday scenes, 80 classes of things and 53 of stuff.",
    categories=CATEGORIES,
    tasks=("semantic", "instance", "panoptic"),
    splits={"train": 118_287, "val": 5_000},
    protocols={
        "semantic": "coco-133",
        "instance": "coco-instances",
        "panoptic": "coco-panoptic",
    },
    licence="annotations: CC BY 4.0; images: under the terms of their owners on Flickr",
    citation="Lin et al., Microsoft COCO: common objects in context, ECCV 2014; Kirillov, He, "
    "Girshick, Rother, Dollár, Panoptic segmentation, CVPR 2019",
    homepage="https://cocodataset.org",
    layout="It must hold train2017/ and val2017/ with the photographs, and annotations/ with "
    "panoptic_<split>2017.json, the folders panoptic_<split>2017/ of its PNGs, and "
    "instances_<split>2017.json. A split may be absent.",
    archives=(
        Archive(
            "train2017.zip",
            (f"{_SITE}/zips/train2017.zip",),
            digest="md5:cced6f7f71b7629ddf16f17bbcfab6b2",
        ),
        Archive(
            "val2017.zip",
            (f"{_SITE}/zips/val2017.zip",),
            digest="md5:442b8da7639aecaf257c1dceb8ba8c80",
        ),
        Archive(
            "annotations_trainval2017.zip",
            (f"{_SITE}/annotations/annotations_trainval2017.zip",),
            digest="md5:f4bbac642086de4f52a3fdda2de5fa2c",
        ),
        Archive(
            "panoptic_annotations_trainval2017.zip",
            (f"{_SITE}/annotations/panoptic_annotations_trainval2017.zip",),
            digest="sha256:c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
            nested=("annotations/panoptic_train2017.zip", "annotations/panoptic_val2017.zip"),
        ),
    ),
    options={"instances": "official"},
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    if options["instances"] not in ("official", "panoptic"):
        raise ConfigError(
            f"dataset 'coco2017', option 'instances': expected official or panoptic, "
            f"found {options['instances']!r}"
        )
    official = options["instances"] == "official"
    splits = {split: _split(raw, split, official=official) for split in INFO.splits}
    if not any(splits.values()):
        refuse_folder(raw, "has no COCO 2017 split", INFO)
    return splits


def _split(raw: Path, split: str, *, official: bool) -> list[SourceImage]:
    folder = raw / "annotations"
    panoptic = folder / f"panoptic_{split}2017.json"
    instances = folder / f"instances_{split}2017.json"
    if not panoptic.exists():
        return []
    if official and not instances.exists():
        raise DataError(
            f"{instances} does not exist; it is the instance truth of COCO's {split} images",
            fix="unpack annotations_trainval2017.zip there, or set the option "
            "instances: panoptic to take the things of the panoptic truth",
        )
    return panoptic_sources(
        panoptic,
        folder / f"panoptic_{split}2017",
        raw / f"{split}2017",
        table=INFO.table,
        instances=instances if official else None,
    )
