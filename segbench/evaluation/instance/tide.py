"""Where AP50 is lost: the error types of TIDE, each with the AP50 that mending it would give.

Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020. The
rules are those of its tool tidecv 1.0.1, which differ from COCOeval: the 100 best detections of
an image (not of an image and category) count, a category that is predicted but has no ground truth
counts as AP 0, and false detections go before hits of the same score when an error is mended.
Detections on crowds are out of the AP, but their errors are counted and can be mended. Images go
by their ids, not by the order of the file, which matters between equal scores only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.types import BoolArray, FloatArray, IntArray
from segbench.evaluation.instance.files import IouType, load_instances
from segbench.evaluation.instance.items import InstanceTable, table_of
from segbench.evaluation.instance.matching import Items, overlapping
from segbench.evaluation.instance.shapes import Boxes, Masks

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
_BOTH_SHAPES: tuple[IouType, ...] = ("segm", "bbox")


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
    counts: IntArray

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, as a record holds them."""
        return {
            "ap50": self.ap50,
            "dap50": self.dap50,
            "counts": dict(zip(KINDS, self.counts.sum(axis=0).tolist(), strict=True)),
            "per_class": [
                {"id": category_id, **dict(zip(KINDS, row, strict=True))}
                for category_id, row in zip(self.category_ids, self.counts.tolist(), strict=True)
            ],
        }


def split_files(truth_json: Path, results_json: Path) -> dict[IouType, ErrorSplit]:
    """Return the errors of masks and of boxes of a COCO results file.

    Raises:
        DataError: A file has one of the faults ``segbench.evaluation.instance.files`` looks for.
    """
    from segbench.evaluation.instance.reading import read_table

    table = read_table(truth_json, results_json, _BOTH_SHAPES, refuse_oddities=False)
    if table is None:
        for iou_type in _BOTH_SHAPES:
            files = load_instances(truth_json, results_json, iou_type=iou_type)
        table = table_of(files.truth, files.detections, _BOTH_SHAPES)
    return {iou_type: split_table(table, iou_type) for iou_type in _BOTH_SHAPES}


def errors_of(truth_json: Path, results_json: Path) -> dict[str, Any]:
    """Return the errors of masks and boxes as a record holds them."""
    found = split_files(truth_json, results_json)
    return {shape: split.as_dict() for shape, split in found.items()}


def split_errors(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], *, iou_type: IouType
) -> ErrorSplit:
    """Split the errors of COCO entries that ``load_instances`` has checked.

    Args:
        truth: A COCO truth.
        detections: Boxes are taken from the masks where the first detection has none.
        iou_type: What is compared.
    """
    return split_table(table_of(truth, detections, _BOTH_SHAPES), iou_type)


def split_table(table: InstanceTable, iou_type: IouType) -> ErrorSplit:
    """Split the errors of masks (``segm``) or boxes (``bbox``) of files that were read."""
    ids = tuple(table.place.category_ids)
    return _summary(_find_errors(*_sides(table, iou_type), len(ids)), ids)


@dataclass(frozen=True, eq=False)
class _Side:
    """Truths or detections by image; ``items.cell`` is the image, ``label`` [n] the class."""

    items: Items
    label: IntArray

    def take(self, order: IntArray) -> _Side:
        return _Side(self.items.take(order), self.label[order])


def _sides(table: InstanceTable, iou_type: IouType) -> tuple[_Side, _Side]:
    """Return truths as in the file, and the detections that count, best first."""
    images = max(len(table.place.image_ids), 1)
    known, found = table.truths, table.detections
    score, crowd = np.zeros(len(known.cell)), np.zeros(len(found.cell), dtype=bool)
    masks = iou_type == "segm"
    one = _shapes(known.masks if masks else known.boxes, known.masks)
    other = _shapes(found.masks if masks else found.boxes, found.masks)
    truths = Items(known.cell % images, one, known.area, score, known.crowd)
    detections = Items(found.cell % images, other, np.zeros(len(crowd)), found.score, crowd)
    order = np.lexsort((-found.score, detections.cell))
    ascending = detections.cell[order]
    rank = np.arange(len(order)) - np.searchsorted(ascending, ascending)
    best = order[rank < MAX_DETECTIONS]
    by_image = np.argsort(truths.cell, kind="stable")
    return (
        _Side(truths, known.cell // images).take(by_image),
        _Side(detections, found.cell // images).take(best),
    )


def _shapes(wanted: Masks | Boxes | None, masks: Masks | None) -> Masks | Boxes:
    if wanted is not None:
        return wanted
    if masks is None:
        raise TypeError("these files were read without their masks")
    return Boxes(masks.boxes)


@dataclass(frozen=True, eq=False)
class _Errors:
    """Detections [D], best first in an image, and truths by class [C].

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


@dataclass(frozen=True, eq=False)
class _Overlaps:
    """Pairs of an image that overlap by ``BACKGROUND`` or more: nearest truth first.

    ``detection``, ``truth`` int64 [P], ascending detections; ``iou`` float64 [P]; ``same``
    bool [P]: of one class.
    """

    detection: IntArray
    truth: IntArray
    iou: FloatArray
    same: BoolArray

    def take(self, chosen: Any) -> _Overlaps:
        return _Overlaps(
            self.detection[chosen], self.truth[chosen], self.iou[chosen], self.same[chosen]
        )

    def highest(self, number: int) -> FloatArray:
        """Return the highest IoU of each detection, 0 without a pair."""
        values = np.zeros(number)
        np.maximum.at(values, self.detection, self.iou)
        return values

    def nearest(self, number: int) -> IntArray:
        """Return the nearest truth of each detection, -1 without a pair."""
        truths = np.full(number, -1, dtype=np.int64)
        found, first = np.unique(self.detection, return_index=True)
        truths[found] = self.truth[first]
        return truths


def _overlaps(truths: _Side, detections: _Side) -> _Overlaps:
    pairs = overlapping(truths.items, detections.items, BACKGROUND)
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.detection))
    same = truths.label[pairs.truth] == detections.label[pairs.detection]
    return _Overlaps(pairs.detection, pairs.truth, pairs.iou, same).take(order)


def _find_errors(truths: _Side, detections: _Side, num_classes: int) -> _Errors:
    number, crowd = len(detections.label), truths.items.crowd
    every = _overlaps(truths, detections)
    out = np.zeros(number, dtype=bool)
    out[every.detection[crowd[every.truth] & every.same & (every.iou > MATCH)]] = True
    pairs = every.take(~crowd[every.truth])
    hit, taken = _match(pairs.take(pairs.same & (pairs.iou >= MATCH)), number, len(crowd))
    kind, about = _kinds(pairs, taken, number)
    kind[hit] = _NONE
    repaired, usable = _repairs(kind, about, taken)
    mended, mended_as = np.zeros(number, dtype=bool), detections.label.copy()
    mended[repaired], mended_as[repaired] = True, truths.label[usable]
    unmatched = ~crowd & ~taken
    missed = unmatched.copy()
    missed[usable] = False
    by_class = [
        np.bincount(truths.label[each], minlength=num_classes)
        for each in (~crowd, unmatched, missed)
    ]
    score, out = detections.items.score, out & ~hit
    return _Errors(detections.label, score, hit, out, kind, mended, mended_as, *by_class)


def _repairs(kind: IntArray, about: IntArray, taken: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the detections that would be hits if mended, and their truths: the best of each."""
    wrong = np.flatnonzero(np.isin(kind, (_CLS, _LOC)))
    wrong = wrong[~taken[about[wrong]]]
    usable, first = np.unique(about[wrong], return_index=True)
    return wrong[first], usable


def _match(pairs: _Overlaps, detections: int, truths: int) -> tuple[BoolArray, BoolArray]:
    """Return which detections and which truths match: greedily, the nearest free truth."""
    hit, taken = [False] * detections, [False] * truths
    for d, g in zip(pairs.detection.tolist(), pairs.truth.tolist(), strict=True):
        if not hit[d] and not taken[g]:
            hit[d] = taken[g] = True
    return np.array(hit, dtype=bool), np.array(taken, dtype=bool)


def _kinds(pairs: _Overlaps, taken: BoolArray, number: int) -> tuple[IntArray, IntArray]:
    """Return the error each detection has if it is no hit, and the ground truth it is about."""
    own, other = pairs.take(pairs.same), pairs.take(~pairs.same)
    nearest = own.highest(number)
    conditions = [
        (nearest >= BACKGROUND) & (nearest <= MATCH),
        other.highest(number) >= MATCH,
        own.take(taken[own.truth]).highest(number) >= MATCH,
        pairs.highest(number) <= BACKGROUND,
    ]
    kind = np.select(conditions, [_LOC, _CLS, _DUPLICATE, _BACKGROUND], _BOTH)
    return kind, np.where(kind == _CLS, other.nearest(number), own.nearest(number))


def _summary(errors: _Errors, ids: tuple[Any, ...]) -> ErrorSplit:
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
    return ErrorSplit(base, gains, ids, counts)


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
