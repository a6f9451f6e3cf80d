"""Pascal Context: every pixel of the Pascal VOC 2010 photographs, for two protocols.

The label files number 459 classes and ``labels.txt`` beside them names the numbers. The 59
classes scored are found there by name; every other label, and 0, is background: ignored in
the protocol of 59 classes, a class of its own in that of 60. The train ids follow the order
of the 459, which is that of mmsegmentation and of the Detail API; ``59_labels.txt`` on the
homepage has another order and other names for table (diningtable), bedclothes (bedcloth) and
cloth (clothes).

The splits are VOC 2010's own lists: 4,998 train and 5,105 val, all 10,103 labelled images.
Toolboxes that read the Detail API's ``trainval_merged.json`` find 4,996 and 5,104 of them:
scores on these differ a little. The MD5 sum of the photographs is the one torchvision checks;
the publisher of the labels states none. Mottaghi et al., CVPR 2014.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, Archive, Category, DatasetInfo, IntArray
from segbench.datasets._voc import read_image_set, voc_color
from segbench.datasets.reading.matlab import as_labels, read_variable
from segbench.datasets.source import RawImage, SourceImage, read_pair, refuse_folder

KIT = Path("VOCdevkit") / "VOC2010"
CONTEXT = Path("pascal-context")
NUM_LABELS = 459

CLASSES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book",
    "bottle", "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth",
    "computer", "cow", "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food",
    "grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse", "person",
    "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign",
    "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall",
    "water", "window", "wood",
)  # fmt: skip
_BACKGROUND_ID = len(CLASSES) + 1
"""Category ids of the classes count from 1 in their order; 0 is none in COCO files."""


def describe(*, background: bool) -> DatasetInfo:
    """Return the entry of the form with or without background as a class."""
    count = len(CLASSES) + background
    other = "background is a class" if background else "background counts nowhere"
    first = (Category(_BACKGROUND_ID, "background", False, voc_color(0)),) if background else ()
    return DatasetInfo(
        name=f"pascal_context_{count}",
        display_name=f"Pascal Context, {count} classes",
        description=f"Photographs labelled at every pixel, objects and surroundings; {other}.",
        categories=(
            *first,
            *(Category(i, name, False, voc_color(i)) for i, name in enumerate(CLASSES, start=1)),
        ),
        tasks=("semantic",),
        splits={"train": 4_998, "val": 5_105},
        protocols={"semantic": f"pascal-context-{count}"},
        licence="images: Flickr's terms of use; annotations: for research, see the homepage",
        citation="Mottaghi, Chen, Liu, Cho, Lee, Fidler, Urtasun, Yuille, The role of context for "
        "object detection and semantic segmentation in the wild, CVPR 2014",
        homepage="https://cs.stanford.edu/~roozbeh/pascal-context/",
        layout="It must hold VOCdevkit/VOC2010/ with ImageSets/Main/ and JPEGImages/, as the "
        "published archive does, and pascal-context/ with labels.txt and trainval/, the content "
        "of trainval.tar.gz.",
        archives=(
            Archive(
                "VOCtrainval_03-May-2010.tar",
                (
                    "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
                    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
                ),
                digest="md5:da459979d0c395079b5c75ee67908abb",
            ),
            Archive(
                "trainval.tar.gz",
                (
                    "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
                    "https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
                ),
                unpack_to=CONTEXT.as_posix(),
            ),
        ),
    )


def find_images(raw: Path, info: DatasetInfo) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of both splits; ``DataError`` when a list or ``labels.txt`` is wrong."""
    lists, names = raw / KIT / "ImageSets" / "Main", raw / CONTEXT / "labels.txt"
    if not lists.is_dir() or not names.is_file():
        refuse_folder(raw, "is not a Pascal Context folder", info)
    train_ids = _train_ids(names, background="background" in info.table.names).tobytes()
    return {
        split: [_image(raw, stem, train_ids) for stem in read_image_set(lists / f"{split}.txt")]
        for split in info.splits
    }


def _train_ids(path: Path, *, background: bool) -> IntArray:
    """Return the train id of each label from 0 to 459, as uint8.

    Raises:
        DataError: The file has other lines than ``<number>: <name>``, or lacks a class.
    """
    numbers: dict[str, int] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for line in filter(str.strip, text.splitlines()):
        parts = re.fullmatch(r"(\d+):(.+)", line.strip())
        if parts is None or not 1 <= int(parts[1]) <= NUM_LABELS:
            raise DataError(f"{path}: expected lines as '1: accordion', found '{line[:40]}'")
        numbers[parts[2].strip()] = int(parts[1])
    missing = [name for name in CLASSES if name not in numbers]
    if missing:
        raise DataError(f"{path} does not name the classes {', '.join(missing[:5])}")
    train_ids = np.full(NUM_LABELS + 1, 0 if background else IGNORE_INDEX, dtype=np.uint8)
    train_ids[[numbers[name] for name in CLASSES]] = np.arange(len(CLASSES)) + background
    return train_ids


def _image(raw: Path, stem: str, train_ids: bytes) -> SourceImage:
    photograph = raw / KIT / "JPEGImages" / f"{stem}.jpg"
    labels = raw / CONTEXT / "trainval" / f"{stem}.mat"
    files = (photograph, labels, raw / CONTEXT / "labels.txt")
    return SourceImage(stem, partial(_load, photograph, labels, train_ids), files)


def _load(image: Path, label_file: Path, train_ids: bytes) -> RawImage:
    size, labels = read_pair(image, label_file, read=_label_map)
    semantic = np.frombuffer(train_ids, dtype=np.uint8)[labels]
    return RawImage(image=image, size=size, semantic=semantic)


def _label_map(path: Path) -> IntArray:
    return as_labels(path, read_variable(path, "LabelMap"), highest=NUM_LABELS)
