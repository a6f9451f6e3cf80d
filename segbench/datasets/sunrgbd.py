"""SUN RGB-D: rooms seen by four depth cameras, 37 classes; only the colour images are used.

The ground truth is that of the toolbox: element i of ``SUNRGBD2Dseg.mat`` (MATLAB 7.3) labels the
image of element i of ``SUNRGBDMeta.mat``, 0 unlabelled and 1 to 37 the classes of
``seg37list.mat``; ``allsplit.mat`` lists the scenes of both splits, 5,285 train and 5,050
test. The files ``seg.mat`` beside the images number the objects of one image and are not it.

Paths in the toolbox begin with a folder of its makers; what follows ``SUNRGBD/`` is the path
in the image archive. An image is named after the folder of its scene, and its number is its
place in the toolbox. A scene whose folder is absent is left out.

The publisher states no checksums: the MD5 sum of the toolbox is the one that VoteNet and
mmdetection3d publish, the sha256 of the images and both sizes are what several public
projects recorded of their downloads. The toolbox names no colours: they are those of the VOC
kit. Song, Lichtenberg, Xiao, CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import Archive, Category, DatasetInfo, IntArray
from segbench.datasets._voc import voc_color
from segbench.datasets.reading.matlab import (
    as_labels,
    count_v73,
    read_strings,
    read_struct,
    read_v73,
)
from segbench.datasets.source import RawImage, SourceImage, read_pair, refuse_folder

IMAGES = "SUNRGBD"
TOOLBOX = Path("SUNRGBDtoolbox")
SPLIT_FILE = TOOLBOX / "traintestSUNRGBD" / "allsplit.mat"
IMAGE_FILE = TOOLBOX / "Metadata" / "SUNRGBDMeta.mat"
LABEL_FILE = TOOLBOX / "Metadata" / "SUNRGBD2Dseg.mat"

_CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor_mat", "clothes", "ceiling", "books", "fridge", "tv", "paper", "towel",
    "shower_curtain", "box", "whiteboard", "person", "night_stand", "toilet", "sink", "lamp",
    "bathtub", "bag",
)  # fmt: skip

INFO = DatasetInfo(
    name="sunrgbd",
    display_name="SUN RGB-D",
    description="Rooms seen by four depth cameras, 37 classes; colour images only.",
    categories=tuple(
        Category(i, name, False, voc_color(i)) for i, name in enumerate(_CLASSES, start=1)
    ),
    tasks=("semantic",),
    splits={"train": 5_285, "test": 5_050},
    protocols={"semantic": "sunrgbd-37"},
    licence="for research; see the homepage",
    citation="Song, Lichtenberg, Xiao, SUN RGB-D: a RGB-D scene understanding benchmark suite, "
    "CVPR 2015; with images of NYU Depth V2 (Silberman et al., ECCV 2012), Berkeley B3DO "
    "(Janoch et al., ICCV workshops 2011) and SUN3D (Xiao, Owens, Torralba, ICCV 2013)",
    homepage="https://rgbd.cs.princeton.edu/",
    layout="It must hold SUNRGBD/ (kv1/, kv2/, realsense/, xtion/) and SUNRGBDtoolbox/ with "
    "Metadata/SUNRGBDMeta.mat, Metadata/SUNRGBD2Dseg.mat and traintestSUNRGBD/allsplit.mat, "
    "as the two published archives do. Folders of scenes may be absent.",
    archives=(
        Archive(
            "SUNRGBD.zip",
            (
                "https://rgbd.cs.princeton.edu/data/SUNRGBD.zip",
                "http://rgbd.cs.princeton.edu/data/SUNRGBD.zip",
            ),
            num_bytes=6_885_481_608,
            digest="sha256:1a6dbf2a1c9044c4805a35ee648d616ea39a231fd5bd6f77e84cd2b8287fe41c",
        ),
        Archive(
            "SUNRGBDtoolbox.zip",
            (
                "https://rgbd.cs.princeton.edu/data/SUNRGBDtoolbox.zip",
                "http://rgbd.cs.princeton.edu/data/SUNRGBDtoolbox.zip",
            ),
            num_bytes=570_324_301,
            digest="md5:18d22e1761d36352f37232cba102f91f",
        ),
    ),
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images whose scene is there; ``DataError`` when the toolbox is not whole."""
    assert raw is not None
    del options
    if not (raw / TOOLBOX).is_dir() or not (raw / IMAGES).is_dir():
        refuse_folder(raw, "is not a SUN RGB-D folder", INFO)
    split_of = {
        _inside(raw / SPLIT_FILE, path): split
        for split in INFO.splits
        for path in read_strings(raw / SPLIT_FILE, f"all{split}")
    }
    splits: dict[str, list[SourceImage]] = {split: [] for split in INFO.splits}
    for index, image in enumerate(_image_paths(raw)):
        scene = image.parent.parent
        if scene in split_of and (raw / IMAGES / scene).is_dir():
            images = splits[split_of[scene]]
            images.append(_image(raw, image, index=index, first=not images))
    if not any(splits.values()):
        raise DataError(f"{raw / IMAGES} has no scene of the toolbox. {INFO.layout}")
    return splits


def _image_paths(raw: Path) -> list[PurePosixPath]:
    """Return the path inside ``SUNRGBD/`` of every image of the toolbox, in its order."""
    records = read_struct(raw / IMAGE_FILE, "SUNRGBDMeta", ("rgbpath",))
    count = count_v73(raw / LABEL_FILE, "SUNRGBD2Dseg", "seglabel")
    if len(records) != count:
        raise DataError(
            f"{raw / LABEL_FILE} labels {count} images, {IMAGE_FILE.name} names {len(records)}"
        )
    return [_inside(raw / IMAGE_FILE, str(path.squeeze())) for (path,) in records]


def _inside(source: Path, path: str) -> PurePosixPath:
    """Return what follows ``SUNRGBD/`` in a path of the toolbox."""
    _, marker, inside = path.partition(f"/{IMAGES}/")
    if not marker or ".." in PurePosixPath(inside).parts:
        raise DataError(f"{source}: expected paths with /{IMAGES}/, found '{path[:80]}'")
    return PurePosixPath(inside.lstrip("/"))


def _image(raw: Path, image: PurePosixPath, *, index: int, first: bool) -> SourceImage:
    """Return an image; the first of a split answers for the content of the toolbox.

    All images of a split share one label file of hundreds of megabytes: it is read once to
    tell whether it changed, not once an image.
    """
    photograph = raw / IMAGES / image
    toolbox = (raw / SPLIT_FILE, raw / IMAGE_FILE, raw / LABEL_FILE) if first else ()
    return SourceImage(
        stem="_".join(image.parent.parent.parts),
        load=partial(_load, photograph, raw / LABEL_FILE, index),
        files=(photograph, *toolbox),
        image_id=index + 1,
    )


def _load(image: Path, label_file: Path, index: int) -> RawImage:
    size, labels = read_pair(image, label_file, read=partial(_labels, index=index))
    semantic = (labels.astype(np.int16) - 1).astype(np.uint8)  # 0 becomes 255
    return RawImage(image=image, size=size, semantic=semantic)


def _labels(path: Path, *, index: int) -> IntArray:
    labels = read_v73(path, "SUNRGBD2Dseg", "seglabel", index=index)
    return as_labels(path, labels, highest=len(_CLASSES))
