"""Pascal VOC 2012: 20 classes of objects and background, with SBD's labels for ``trainaug``.

``train`` and ``val`` are the segmentation lists of the VOC kit, labelled by its PNGs: 255 in
``SegmentationClass`` and ``SegmentationObject`` is the border of an object, which counts
nowhere. ``trainaug`` is the usual training set of papers and no archive lists it: every image
of VOC's train and of SBD's train and val that is not in VOC's val, 1,464 + 9,118 = 10,582.
VOC's own images keep VOC's labels there; the others get those of SBD, which has no border.
VOC's ``trainval`` is the union of train and val; its test truth is not public.

An object's class is the class of most of its pixels in VOC and ``Categories`` in SBD.
The MD5 sums are those torchvision checks; the sizes are what the servers announce.
Everingham et al., IJCV 2015; Hariharan et al., ICCV 2011.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, Archive, Category, DatasetInfo, Instances, IntArray
from segbench.datasets._voc import read_image_set, voc_color
from segbench.datasets.reading.matlab import as_labels, read_struct
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    instances_from_masks,
    read_pair,
    refuse_folder,
    require_size,
)
from segbench.formats.label_maps import read_label_map

KIT = Path("VOCdevkit") / "VOC2012"
SBD = Path("benchmark_RELEASE") / "dataset"
BACKGROUND = 0

_OBJECTS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_BACKGROUND_ID = 21
"""Category ids of the objects are VOC's numbers; 0 is none in COCO files."""

INFO = DatasetInfo(
    name="voc2012",
    display_name="Pascal VOC 2012",
    description="Photographs of 20 classes of objects; semantic and instance masks.",
    categories=(
        Category(_BACKGROUND_ID, "background", False, voc_color(BACKGROUND)),
        *(Category(i, name, True, voc_color(i)) for i, name in enumerate(_OBJECTS, start=1)),
    ),
    tasks=("semantic", "instance"),
    splits={"train": 1_464, "trainaug": 10_582, "val": 1_449},
    protocols={"semantic": "voc2012", "instance": "coco-instances"},
    licence="images: Flickr's terms of use; annotations: for research, see the homepages",
    citation="Everingham, Eslami, Van Gool, Williams, Winn, Zisserman, The Pascal visual object "
    "classes challenge: a retrospective, IJCV 2015; trainaug: Hariharan, Arbeláez, Bourdev, "
    "Maji, Malik, Semantic contours from inverse detectors, ICCV 2011",
    homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    layout="It must hold VOCdevkit/VOC2012/ with ImageSets/Segmentation/, JPEGImages/, "
    "SegmentationClass/ and SegmentationObject/, as the published archive does, and for the "
    "split trainaug benchmark_RELEASE/dataset/ of SBD with train.txt, val.txt, cls/ and inst/.",
    archives=(
        Archive(
            "VOCtrainval_11-May-2012.tar",
            (
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
            ),
            num_bytes=1_999_639_040,
            digest="md5:6cd6e144f989b92b3379bac3b3de84fd",
        ),
        Archive(
            "benchmark.tgz",
            (
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                "semantic_contours/benchmark.tgz",
                "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                "semantic_contours/benchmark.tgz",
            ),
            num_bytes=1_419_539_633,
            digest="md5:82b4d87ceb2ed10f6038a1cba92111cb",
        ),
    ),
)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of the splits; ``trainaug`` is empty without SBD."""
    assert raw is not None
    del options
    lists = raw / KIT / "ImageSets" / "Segmentation"
    if not lists.is_dir():
        refuse_folder(raw, "has no Pascal VOC 2012", INFO)
    train, val = (read_image_set(lists / f"{split}.txt") for split in ("train", "val"))
    return {
        "train": [_voc_image(raw, stem) for stem in train],
        "trainaug": _trainaug(raw, train, val),
        "val": [_voc_image(raw, stem) for stem in val],
    }


def _trainaug(raw: Path, train: Sequence[str], val: Sequence[str]) -> list[SourceImage]:
    if not (raw / SBD).is_dir():
        return []
    sbd = {
        stem for split in ("train", "val") for stem in read_image_set(raw / SBD / f"{split}.txt")
    }
    own = set(train)
    return [
        (_voc_image if stem in own else _sbd_image)(raw, stem)
        for stem in trainaug_stems(train, val, sbd)
    ]


def trainaug_stems(train: Sequence[str], val: Sequence[str], sbd: set[str]) -> list[str]:
    """Return the names of ``trainaug``: VOC's train and SBD without VOC's val, sorted."""
    return sorted((set(train) | sbd) - set(val))


def _voc_image(raw: Path, stem: str) -> SourceImage:
    files = (
        raw / KIT / "JPEGImages" / f"{stem}.jpg",
        raw / KIT / "SegmentationClass" / f"{stem}.png",
        raw / KIT / "SegmentationObject" / f"{stem}.png",
    )
    return SourceImage(stem, partial(_load_voc, *files), files)


def _sbd_image(raw: Path, stem: str) -> SourceImage:
    files = (
        raw / KIT / "JPEGImages" / f"{stem}.jpg",
        raw / SBD / "cls" / f"{stem}.mat",
        raw / SBD / "inst" / f"{stem}.mat",
    )
    return SourceImage(stem, partial(_load_sbd, *files), files)


def _load_voc(image: Path, class_file: Path, object_file: Path) -> RawImage:
    size, labels = read_pair(image, class_file)
    labels = as_labels(class_file, labels, highest=len(_OBJECTS), also=IGNORE_INDEX)
    numbers = _same_size(read_label_map(object_file), object_file, size)
    objects = [int(n) for n in np.unique(numbers) if n not in (BACKGROUND, IGNORE_INDEX)]
    classes: list[int] = []
    for number in objects:
        votes = np.bincount(labels[numbers == number], minlength=IGNORE_INDEX + 1)
        votes = votes[: len(_OBJECTS) + 1]
        votes[BACKGROUND] = 0
        if not votes.any():
            raise DataError(
                f"{object_file}: object {number} has no pixel of an object class in "
                f"{class_file.name}"
            )
        classes.append(int(votes.argmax()))
    return RawImage(
        image=image,
        size=size,
        semantic=labels.astype(np.uint8),
        instances=_instances(numbers, objects, classes),
    )


def _load_sbd(image: Path, class_file: Path, object_file: Path) -> RawImage:
    size, labels = read_pair(image, class_file, read=_sbd_classes)
    numbers, classes = _sbd_objects(object_file)
    numbers = _same_size(numbers, object_file, size)
    objects = [int(n) for n in np.unique(numbers) if n not in (BACKGROUND, IGNORE_INDEX)]
    if objects and objects[-1] > len(classes):
        raise DataError(
            f"{object_file}: object {objects[-1]} has no class; Categories has {len(classes)}"
        )
    return RawImage(
        image=image,
        size=size,
        semantic=labels.astype(np.uint8),
        instances=_instances(numbers, objects, [classes[n - 1] for n in objects]),
    )


def _sbd_classes(path: Path) -> IntArray:
    """Return ``GTcls.Segmentation``: 0 background, 1 to 20 the objects."""
    ((labels,),) = read_struct(path, "GTcls", ("Segmentation",))
    return as_labels(path, labels, highest=len(_OBJECTS), also=IGNORE_INDEX)


def _sbd_objects(path: Path) -> tuple[IntArray, list[int]]:
    """Return ``GTinst.Segmentation``, 0 background, and the class of each of its numbers."""
    ((numbers, classes),) = read_struct(path, "GTinst", ("Segmentation", "Categories"))
    found = [int(label) for label in classes.ravel()]
    if not set(found) <= set(range(1, len(_OBJECTS) + 1)):
        raise DataError(f"{path}: Categories has {found}; expected 1 to {len(_OBJECTS)}")
    return as_labels(path, numbers, highest=IGNORE_INDEX), found


def _same_size(labels: IntArray, path: Path, size: tuple[int, int]) -> IntArray:
    require_size(labels, path, size, image="the image is")
    return labels


def _instances(numbers: IntArray, objects: Sequence[int], classes: Sequence[int]) -> Instances:
    masks = numbers == np.asarray(objects, dtype=numbers.dtype)[:, None, None]
    return instances_from_masks(masks, classes)
