"""Where AP50 is lost: the error types of TIDE, each with the AP50 that mending it would give.

Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020. The
rules are those of its tool tidecv 1.0.1, which differ from COCOeval: the 100 best detections of
an image (not of an image and category) count, a category that is predicted but has no truth
counts as AP 0, and false detections go before hits of the same score when an error is mended.
Detections on crowds are out of the AP, but their errors are counted and can be mended.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.evaluation.coco_files import IouType, compress_masks, load_instances
from segbench.progress import track
from segbench.types import BoolArray, FloatArray, IntArray

Entry = Mapping[str, Any]
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""Main errors; a wrong detection has exactly one of the first five."""
SPECIAL = ("false_positive", "false_negative")
MATCH = 0.5
"""IoU from which a detection matches."""
BACKGROUND = 0.1
"""IoU up to which a detection touches nothing."""
MAX_DETECTIONS = 100
"""Best detections of an image that count."""
_CLS, _LOC, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)
_NONE = -1
_POINTS = np.array([i / 100 for i in range(101)])


@dataclass(frozen=True, eq=False)
class ErrorSplit:
    """Errors of one kind of shape.

    ``ap50``: AP50 under TIDE's rules, a fraction, None where there is nothing to score.
    ``dap50``: AP50 gained by mending each of ``KINDS`` alone, by having no false positives and
    no false negatives (``SPECIAL``); None where nothing would be left to score. ``counts``
    int64 [C, 6]: errors of each category and kind.
    """

    ap50: float | None
    dap50: dict[str, float | None]
    category_ids: tuple[Any, ...]
    names: tuple[str, ...]
    counts: IntArray

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, as a record holds them."""
        classes = zip(self.category_ids, self.names, self.counts.tolist(), strict=True)
        return {
            "ap50": self.ap50,
            "dap50": self.dap50,
            "counts": dict(zip(KINDS, self.counts.sum(axis=0).tolist(), strict=True)),
            "per_class": [
                {"id": i, "name": name, **dict(zip(KINDS, row, strict=True))}
                for i, name, row in classes
            ],
        }


def split_files(truth_json: Path, results_json: Path) -> dict[IouType, ErrorSplit]:
    """Return the errors of masks and of boxes of a COCO results file.

    Raises:
        DataError: A file has one of the faults ``segbench.evaluation.coco_files`` looks for.
    """
    files = load_instances(truth_json, results_json, iou_type="segm")
    sizes = {image["id"]: (image["height"], image["width"]) for image in files.truth["images"]}
    compress_masks(files.detections, sizes)
    return {
        "segm": split_errors(files.truth, files.detections, iou_type="segm"),
        "bbox": split_errors(files.truth, files.detections, iou_type="bbox"),
    }


def split_errors(
    truth: Mapping[str, Any], detections: Sequence[Entry], *, iou_type: IouType
) -> ErrorSplit:
    """Split the errors of checked COCO entries with compressed masks.

    Args:
        truth: A COCO truth.
        detections: Boxes are taken from the masks where the first detection has none.
        iou_type: What is compared.
    """
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    place = {category["id"]: k for k, category in enumerate(categories)}
    known, found = _by_image(truth["annotations"]), _by_image(detections)
    shapes = _Shapes(iou_type, from_boxes=bool(detections) and "bbox" in detections[0])
    images = []
    for image in track(truth["images"], len(truth["images"]), f"split errors ({iou_type})"):
        size = (image["height"], image["width"])
        truths, best = known[image["id"]], _best(found[image["id"]])
        images.append(_split_image(truths, best, shapes, place, size))
    ids = tuple(category["id"] for category in categories)
    names = tuple(str(category.get("name", category["id"])) for category in categories)
    return _summary(_joined(images, len(ids)), ids, names)


def _by_image(entries: Iterable[Entry]) -> defaultdict[Any, list[Entry]]:
    groups: defaultdict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry["image_id"]].append(entry)
    return groups


def _best(detections: Sequence[Entry]) -> Sequence[Entry]:
    """Return the detections of an image that count, best first, equal ones as they came."""
    return sorted(detections, key=lambda detection: -detection["score"])[:MAX_DETECTIONS]


@dataclass(frozen=True)
class _Shapes:
    """Reads masks or boxes, and compares them."""

    iou_type: IouType
    from_boxes: bool

    def truths(self, entries: Sequence[Entry], size: tuple[int, int]) -> Any:
        if self.iou_type == "bbox":
            return _boxes(entries)
        return [_rle(entry["segmentation"], size) for entry in entries]

    def detections(self, entries: Sequence[Entry]) -> Any:
        if self.iou_type == "bbox" and self.from_boxes:
            return _boxes(entries)
        masks = [entry["segmentation"] for entry in entries]
        return coco_mask.toBbox(masks) if self.iou_type == "bbox" and masks else masks

    @staticmethod
    def iou(found: Any, known: Any, *, crowd: bool) -> FloatArray:
        """Return IoU [D, G], over the detection's own area where the truths are crowds."""
        if not len(found) or not len(known):
            return np.zeros((len(found), len(known)))
        values: FloatArray = coco_mask.iou(found, known, [int(crowd)] * len(known))
        return values


def _boxes(entries: Sequence[Entry]) -> FloatArray:
    return np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)


def _rle(segmentation: Any, size: tuple[int, int]) -> Any:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation


@dataclass(frozen=True, eq=False)
class _Errors:
    """Detections [D] of one or all images, best first in an image, and truths by class [C].

    ``hit``: matched; ``out``: on a crowd, no part of the AP. ``kind``: of ``KINDS``, -1 for
    hits. ``mended``: it would be the hit of a truth if its error were mended, as ``mended_as``
    (class); other wrong detections would go. ``truths``, ``unmatched``, ``missed`` int64 [C]:
    truths without crowds, those without a hit, those that nothing mends.
    """

    label: IntArray
    score: FloatArray
    hit: BoolArray
    out: BoolArray
    kind: IntArray
    mended: BoolArray
    mended_as: IntArray
    truths: IntArray
    unmatched: IntArray
    missed: IntArray


def _joined(images: Sequence[_Errors], number: int) -> _Errors:
    def joined(name: str, dtype: Any) -> Any:
        return np.concatenate([np.zeros(0, dtype=dtype), *(getattr(i, name) for i in images)])

    def summed(name: str) -> IntArray:
        total: IntArray = np.zeros(number, dtype=np.int64)
        for image in images:
            np.add.at(total, getattr(image, name), 1)
        return total

    return _Errors(
        joined("label", np.int64), joined("score", np.float64), joined("hit", bool),
        joined("out", bool), joined("kind", np.int64), joined("mended", bool),
        joined("mended_as", np.int64), summed("truths"), summed("unmatched"), summed("missed"),
    )  # fmt: skip


def _split_image(
    truths: Sequence[Entry],
    best: Sequence[Entry],
    shapes: _Shapes,
    place: Mapping[Any, int],
    size: tuple[int, int],
) -> _Errors:
    """Return the errors of an image; its truths are lists of classes, not yet counted."""
    single = [entry for entry in truths if not entry["iscrowd"]]
    crowds = [entry for entry in truths if entry["iscrowd"]]
    label = np.array([place[entry["category_id"]] for entry in best], dtype=np.int64)
    known = np.array([place[entry["category_id"]] for entry in single], dtype=np.int64)
    crowd = np.array([place[entry["category_id"]] for entry in crowds], dtype=np.int64)
    found = shapes.detections(best)
    iou = shapes.iou(found, shapes.truths(single, size), crowd=False)
    on_crowd = shapes.iou(found, shapes.truths(crowds, size), crowd=True) > MATCH
    same = label[:, None] == known[None, :]
    match = _match(np.where(same, iou, 0.0))
    taken = np.zeros(len(known), dtype=bool)
    taken[match[match >= 0]] = True
    hit = match >= 0
    kind, nearest = _kinds(iou, same, taken)
    kind = np.where(hit, _NONE, kind)
    chosen = np.flatnonzero(np.isin(kind, (_CLS, _LOC)))
    chosen = chosen[~taken[nearest[chosen]]]
    usable, first = np.unique(nearest[chosen], return_index=True)
    mended = np.zeros(len(label), dtype=bool)
    mended[chosen[first]] = True
    left = ~taken
    left[usable] = False
    return _Errors(
        label,
        np.array([entry["score"] for entry in best], dtype=np.float64),
        hit,
        ~hit & (on_crowd & (label[:, None] == crowd[None, :])).any(axis=1),
        kind,
        mended,
        known[nearest] if len(known) else label,
        known,
        known[~taken],
        known[left],
    )


def _match(iou: FloatArray) -> IntArray:
    """Return the truth of each detection, -1 for none: the free one of highest IoU, greedily.

    Args:
        iou: [D, G], 0 for truths of another class; the first of equal truths is taken.
    """
    free = iou.copy()
    match = np.full(len(iou), -1, dtype=np.int64)
    for d in np.flatnonzero((iou >= MATCH).any(axis=1)).tolist():
        g = int(np.argmax(free[d]))
        if free[d, g] >= MATCH:
            match[d] = g
            free[:, g] = 0.0
    return match


def _kinds(iou: FloatArray, same: BoolArray, taken: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the error each detection has if it is no hit, and the truth it is about.

    Args:
        iou: [D, G].
        same: [D, G]: of one class.
        taken: [G]: has a hit.
    """
    if not iou.shape[1]:
        return np.full(len(iou), _BACKGROUND), np.zeros(len(iou), dtype=np.int64)
    own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    nearest = own.max(axis=1)
    conditions = [
        (nearest >= BACKGROUND) & (nearest <= MATCH),
        other.max(axis=1) >= MATCH,
        np.where(taken, own, 0.0).max(axis=1) >= MATCH,
        iou.max(axis=1) <= BACKGROUND,
    ]
    kind = np.select(conditions, [_LOC, _CLS, _DUPLICATE, _BACKGROUND], _BOTH)
    return kind, np.where(kind == _CLS, other.argmax(axis=1), own.argmax(axis=1))


def _summary(errors: _Errors, ids: tuple[Any, ...], names: tuple[str, ...]) -> ErrorSplit:
    counts = np.zeros((len(ids), len(KINDS)), dtype=np.int64)
    wrong = errors.kind != _NONE
    np.add.at(counts, (errors.label[wrong], errors.kind[wrong]), 1)
    counts[:, _MISSED] = errors.missed
    scored = ~errors.out
    base = _mean_ap(
        errors.label[scored], errors.score[scored], errors.hit[scored], errors.truths
    )  # fmt: skip
    mended = {kind: _mended(errors, i) for i, kind in enumerate(KINDS)}
    special = dict(zip(SPECIAL, _special(errors), strict=True))
    # A small loss comes from the order of equal scores.
    gains = {kind: _gain(value, base, least=0.0) for kind, value in mended.items()}
    gains |= {kind: _gain(value, base) for kind, value in special.items()}
    return ErrorSplit(base, gains, ids, names, counts)


def _gain(value: float | None, base: float | None, least: float = -math.inf) -> float | None:
    return None if value is None or base is None else max(value - base, least)


def _mended(errors: _Errors, kind: int) -> float | None:
    """Return AP50 with the errors of one kind mended."""
    of_kind = errors.kind == kind
    truths = errors.truths - errors.missed if kind == _MISSED else errors.truths
    kept = np.where(of_kind, errors.mended, ~errors.out) & ~errors.hit
    label = np.where(of_kind, errors.mended_as, errors.label)
    order = np.concatenate([np.flatnonzero(kept), np.flatnonzero(errors.hit)])
    hit = (errors.hit | of_kind)[order]
    return _mean_ap(label[order], errors.score[order], hit, truths)


def _special(errors: _Errors) -> tuple[float | None, float | None]:
    """Return AP50 with all false positives last, and with all false negatives gone."""
    false = np.flatnonzero(~errors.hit & ~errors.out)
    order = np.concatenate([false, np.flatnonzero(errors.hit)])
    label, hit = errors.label[order], errors.hit[order]
    last = _mean_ap(label, hit.astype(np.float64), hit, errors.truths)
    gone = _mean_ap(label, errors.score[order], hit, errors.truths - errors.unmatched)
    return last, gone


def _mean_ap(label: IntArray, score: FloatArray, hit: BoolArray, truths: IntArray) -> float | None:
    """Return the mean AP over the classes [C] with detections or truths; None without any."""
    order = np.argsort(label, kind="stable")
    bounds = np.searchsorted(label[order], np.arange(len(truths) + 1))
    found = []
    for k, number in enumerate(truths.tolist()):
        chosen = order[bounds[k] : bounds[k + 1]]
        if len(chosen) or number:
            found.append(_ap(score[chosen], hit[chosen], number))
    return math.fsum(found) / len(found) if found else None


def _ap(score: FloatArray, hit: BoolArray, truths: int) -> float:
    """Return the mean of the precision's envelope at 101 recalls; 0 without truths."""
    if not truths:
        return 0.0
    hits = np.cumsum(hit[np.argsort(-score, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    reached = np.searchsorted(hits / truths, _POINTS, side="left")
    return math.fsum(envelope[reached].tolist()) / len(_POINTS)
