"""COCO instance files read and checked at once, for files without a fault.

Types are checked while the JSON is parsed, values on whole columns, masks in one compiled loop.
What is read here has passed every rule of ``coco_files``; a file that breaks one, or that says
something in an unusual way, gives None and is left to ``coco_files``, which names every fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, json

from segbench.core.types import FloatArray, IntArray
from segbench.evaluation.instance.items import CellIndex, Detections, InstanceTable, IouType, Truths
from segbench.evaluation.instance.oddities import BEYOND, ROUNDING
from segbench.evaluation.instance.shapes import (
    Boxes,
    BrokenMaskError,
    Masks,
    mask_text,
    read_boxes,
    read_masks,
)

_T = TypeVar("_T")
_Id = int | str
_Box = tuple[float, float, float, float]
_BOUND = 2.0**63
"""Numbers from here on are refused by ``coco_files``."""


class _Image(Struct, gc=False):
    id: _Id
    height: int
    width: int


class _Category(Struct, gc=False):
    id: int


class _Mask(Struct, gc=False):
    size: tuple[int, int]
    counts: Raw


class _Annotation(Struct, gc=False):
    id: int
    image_id: _Id
    category_id: int
    area: float
    iscrowd: int
    bbox: _Box
    segmentation: _Mask | list[list[float]] | UnsetType = UNSET


class _Truth(Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


class _Detection(Struct, gc=False):
    image_id: _Id
    category_id: int
    score: float
    id: _Id | UnsetType = UNSET
    bbox: _Box | UnsetType = UNSET
    segmentation: _Mask | UnsetType = UNSET


class _Unusual(ValueError):
    """Something that ``coco_files`` has to look at."""


_REFUSALS = (_Unusual, BrokenMaskError, DecodeError, KeyError)
_FAILURES = (OSError, OverflowError, RecursionError, ValueError)
"""A file that is not there, a number of more than 64 bits, deep nesting, no UTF-8."""


def read_table(
    truth_json: Path,
    results_json: Path,
    iou_types: Sequence[IouType],
    *,
    refuse_oddities: bool = False,
) -> InstanceTable | None:
    """Read two files; None where anything in them is wrong or unusual.

    Args:
        truth_json: COCO instances JSON.
        results_json: COCO results JSON.
        iou_types: What is to be scored.
        refuse_oddities: Count what ``coco_oddities`` warns of as unusual.
    """
    try:
        truth = _decode(truth_json, _Truth)
        place, sizes = _images(truth)
        truths = _truths(truth.annotations, place, sizes, iou_types)
        if refuse_oddities and truths.masks is not None:
            _expect(0 not in place.category)
            _expect_right_areas(truth.annotations, truths.masks)
            _expect_inside(truths.boxes, _sizes(truth.annotations, sizes))
        del truth
        entries = _decode(results_json, list[_Detection])
        found = _detections(entries, place, sizes, iou_types)
        if refuse_oddities and found.boxes is not None:
            _expect_inside(found.boxes, _sizes(entries, sizes))
        del entries
        if refuse_oddities and found.masks is not None:
            _expect_no_copies(found, found.masks)
    except (*_REFUSALS, *_FAILURES):
        return None
    return InstanceTable(place, truths, found)


def _decode(path: Path, kind: type[_T]) -> _T:
    return json.decode(Path(path).read_bytes(), type=kind)


def _expect(right: object) -> None:
    if not right:
        raise _Unusual


def _images(truth: _Truth) -> tuple[CellIndex, dict[_Id, tuple[int, int]]]:
    """Return the place of each image and category, and (height, width) by image id."""
    sizes = {image.id: (image.height, image.width) for image in truth.images}
    categories = {category.id for category in truth.categories}
    _expect(sizes and len(sizes) == len(truth.images) and len(categories) == len(truth.categories))
    _expect(len({type(image_id) for image_id in sizes}) == 1)
    _expect(np.array(list(sizes.values()), dtype=np.int64).min() >= 1)
    for ids in (sizes, categories):
        _as_integers([i for i in ids if isinstance(i, int)])
    return CellIndex(sizes, categories), sizes


def _truths(
    entries: Sequence[_Annotation],
    place: CellIndex,
    sizes: dict[_Id, tuple[int, int]],
    iou_types: Sequence[IouType],
) -> Truths:
    ids = _as_integers([e.id for e in entries])
    _expect(len(np.unique(ids)) == len(ids) and ids.min(initial=1) >= 1)
    area = np.array([e.area for e in entries], dtype=np.float64)
    _expect(_between(area, 0, _BOUND))
    crowd = _as_integers([e.iscrowd for e in entries])
    _expect(((crowd == 0) | (crowd == 1)).all())
    size = _sizes(entries, sizes)
    return Truths(
        ids,
        place.of([e.image_id for e in entries], [e.category_id for e in entries]),
        _boxes([e.bbox for e in entries]),
        _masks([e.segmentation for e in entries], size) if "segm" in iou_types else None,
        area,
        crowd == 1,
    )


def _detections(
    entries: Sequence[_Detection],
    place: CellIndex,
    sizes: dict[_Id, tuple[int, int]],
    iou_types: Sequence[IouType],
) -> Detections:
    ids = [e.id for e in entries if e.id is not UNSET]
    _expect(len(set(ids)) == len(ids))
    _as_integers([i for i in ids if isinstance(i, int)])
    score = np.array([e.score for e in entries], dtype=np.float64)
    _expect(_between(score, 0, np.nextafter(1, 2)))
    boxed = "bbox" in iou_types and any(e.bbox is not UNSET for e in entries)
    size = _sizes(entries, sizes)
    with_masks = "segm" in iou_types or not boxed
    return Detections(
        place.of([e.image_id for e in entries], [e.category_id for e in entries]),
        _boxes([e.bbox for e in entries]) if boxed else None,
        _masks([e.segmentation for e in entries], size) if with_masks else None,
        score,
    )


def _as_integers(values: Sequence[int]) -> IntArray:
    """Return int64 values; ``OverflowError`` for larger ones."""
    return np.array(values, dtype=np.int64)


def _between(values: FloatArray, low: float, below: float) -> bool:
    return bool(((values >= low) & (values < below)).all())


def _sizes(entries: Sequence[Any], sizes: dict[_Id, tuple[int, int]]) -> IntArray:
    """Return (height, width) of the image of each entry, int64 [n, 2]."""
    return np.array([sizes[e.image_id] for e in entries], dtype=np.int64).reshape(-1, 2)


def _boxes(boxes: Sequence[_Box | UnsetType]) -> Boxes:
    given = [box for box in boxes if not isinstance(box, UnsetType)]
    _expect(len(given) == len(boxes))
    found = read_boxes(given)
    _expect(_between(found.values[:, :2], -_BOUND, _BOUND))
    _expect(_between(found.values[:, 2:], 0, _BOUND))
    return found


def _masks(segmentations: Sequence[Any], size: IntArray) -> Masks:
    runs = [s for s in segmentations if isinstance(s, _Mask)]
    written = np.array([s.size for s in runs], dtype=np.int64).reshape(-1, 2)
    if len(runs) == len(segmentations):
        _expect(np.array_equal(written, size))
        texts: list[Any] = [s.counts for s in runs]
    else:
        rows = zip(segmentations, size.tolist(), strict=True)
        texts = [_text(s, *pair) for s, pair in rows]
    return read_masks(texts, size[:, 0].copy(), size[:, 1].copy())


def _text(segmentation: Any, height: int, width: int) -> Any:
    """Return the run lengths of a mask or of polygons as text."""
    if isinstance(segmentation, _Mask):
        _expect(segmentation.size == (height, width))
        return segmentation.counts
    _expect(isinstance(segmentation, list) and segmentation)
    for polygon in segmentation:
        _expect(len(polygon) >= 6 and len(polygon) % 2 == 0)
    return mask_text(segmentation, height, width)


def _expect_right_areas(entries: Sequence[_Annotation], masks: Masks) -> None:
    exact = np.array([isinstance(e.segmentation, _Mask) for e in entries], dtype=bool)
    written = np.array([e.area for e in entries], dtype=np.float64)
    _expect((np.abs(written - masks.areas)[exact] <= ROUNDING).all())


def _expect_inside(boxes: Boxes, size: IntArray) -> None:
    """Refuse boxes of which many reach beyond their images, (height, width) [n, 2]."""
    corner, extent = boxes.values[:, :2], boxes.values[:, 2:]
    beyond = (corner < -ROUNDING) | (corner + extent > size[:, ::-1] + ROUNDING)
    _expect(beyond.any(axis=1).sum() <= BEYOND * len(size))


def _expect_no_copies(found: Detections, masks: Masks) -> None:
    """Refuse two detections of one cell, score and text."""
    columns = (found.cell, found.score, masks.areas)
    order = np.lexsort(columns[::-1])
    equal = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in columns])
    places = np.flatnonzero(equal)
    rows = np.unique(order[np.concatenate([places, places + 1])]).tolist()
    keys = {(found.cell[i], found.score[i], masks.text_of(i)) for i in rows}
    _expect(len(keys) == len(rows))
