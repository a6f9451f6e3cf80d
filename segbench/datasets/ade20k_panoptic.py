"""ADE20K with instances: 100 classes of things and 50 of stuff.

Instances are those of the 2017 challenge: red is the class 1 to 100, green the number of the
object in the image. Panoptic truth puts the objects over the stuff of the label map; pixels
labelled as a thing without an object are void, as in the common conversion (Mask2Former's).
Zhou et al., CVPR 2017 and IJCV 2019; Cheng et al., CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import Archive, DatasetInfo, Instances
from segbench.datasets import _ade20k
from segbench.datasets.classes.ade20k import CATEGORIES, THING_LABELS
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    compose_panoptic,
    instances_from_masks,
    require_size,
)
from segbench.formats.label_maps import read_image

_INSTANCES = "annotations_instance"

INFO = DatasetInfo(
    name="ade20k_panoptic",
    display_name="ADE20K panoptic",
    description="Photographs of indoor and outdoor scenes, 100 classes of things and 50 of stuff.",
    categories=CATEGORIES,
    tasks=("semantic", "instance", "panoptic"),
    splits=_ade20k.COUNTS,
    protocols={
        "semantic": "ade20k-150",
        "instance": "coco-instances",
        "panoptic": "coco-panoptic",
    },
    licence=_ade20k.LICENCE,
    citation=_ade20k.CITATION,
    homepage=_ade20k.HOMEPAGE,
    layout="It must hold ADEChallengeData2016/ with images/, annotations/ and "
    "annotations_instance/, each with training/ and validation/. A split may be absent.",
    archives=(
        _ade20k.SCENES,
        Archive(
            f"{_INSTANCES}.tar",
            (f"http://sceneparsing.csail.mit.edu/data/ChallengeData2017/{_INSTANCES}.tar",),
            unpack_to=_ade20k.TOP,
        ),
    ),
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits that are there; ``DataError`` when none is."""
    assert raw is not None
    del options
    return _ade20k.split_sources(raw, _load, ("annotations", _INSTANCES), INFO)


def _load(image: Path, label_file: Path, instance_file: Path) -> RawImage:
    size, semantic = _ade20k.read_scene(image, label_file)
    instances = _instances(instance_file, size)
    panoptic = compose_panoptic(semantic, instances, table=INFO.table)
    return RawImage(image, size, semantic, instances, panoptic)


def _instances(path: Path, size: tuple[int, int]) -> Instances:
    colours = read_image(path)
    require_size(colours, path, size)
    classes, numbers = colours[..., 0], colours[..., 1]
    objects = np.unique(numbers[numbers > 0])
    masks = numbers == objects[:, None, None]
    return instances_from_masks(masks, [_train_id(np.unique(classes[m]), path) for m in masks])


def _train_id(found: Any, path: Path) -> int:
    """Return the train id of an object's classes, of which there must be one, 1 to 100."""
    if len(found) != 1 or not 1 <= found[0] <= len(THING_LABELS):
        raise DataError(
            f"{path.name}: an object has the classes {found.tolist()}; expected one of "
            f"1 to {len(THING_LABELS)} in the red channel"
        )
    return THING_LABELS[int(found[0]) - 1] - 1
