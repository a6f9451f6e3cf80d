"""Cityscapes instance AP: overlaps stored as integers, scores made from them as officially done.

Every number that decides a match is an integer count of pixels, stored per image; the curve and
its integral are computed with the official tool's own NumPy steps, so that AP agrees with
cityscapesScripts (evalInstanceLevelSemanticLabeling) to the last bit. Distances of objects are
not in the public truth and the official defaults leave them out: there is no AP at 50 or 100 m.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import BoolArray, FloatArray, ImageId, IntArray
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.protocols.cityscapes_labels import THING_IDS, THING_NAMES

OVERLAPS = np.arange(0.5, 1.0, 0.05)
"""Thresholds an overlap must exceed, with the rounding of the official tool."""
MIN_PIXELS = 100
"""Smaller truths are ignored."""
MIN_SCORE = 0.5
_STEP = np.array([-0.5, 0.0, 0.5])


@dataclass(frozen=True, eq=False)
class OverlapCounts:
    """Pixels of truths, detections and what they share, image by image.

    ``truths`` int64 [G, 4]: position in ``image_ids``, label id, pixels, 1 for a group of
    objects. ``detections`` int64 [D, 4]: position, label id, pixels, those on void.
    ``scores`` float64 [D]. ``pairs`` int64 [P, 3]: detection, truth of its label, shared
    pixels (at least one).
    """

    image_ids: tuple[ImageId, ...]
    truths: IntArray
    detections: IntArray
    scores: FloatArray
    pairs: IntArray

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Label ids of the rows of ``per_class``."""
        return THING_IDS

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        return merge([self, other])

    def subset(self, image_ids: Iterable[ImageId]) -> OverlapCounts:
        """Return the counts of some images, in the order they have here."""
        wanted = set(image_ids)
        kept = [i for i, image_id in enumerate(self.image_ids) if image_id in wanted]
        images = _new_places(len(self.image_ids), np.array(kept, dtype=np.int64))
        truths = np.flatnonzero(images[self.truths[:, 0]] >= 0)
        found = np.flatnonzero(images[self.detections[:, 0]] >= 0)
        pairs = self.pairs[images[self.detections[self.pairs[:, 0], 0]] >= 0].copy()
        pairs[:, 0] = _new_places(len(self.detections), found)[pairs[:, 0]]
        pairs[:, 1] = _new_places(len(self.truths), truths)[pairs[:, 1]]
        tables = [self.truths[truths].copy(), self.detections[found].copy()]
        for table in tables:
            table[:, 0] = images[table[:, 0]]
        names = tuple(self.image_ids[i] for i in kept)
        return OverlapCounts(names, tables[0], tables[1], self.scores[found], pairs)

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays for storage."""
        return {field.name: np.array(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> OverlapCounts:
        """Return the counts that ``to_arrays`` took apart."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**{**values, "image_ids": tuple(values["image_ids"].tolist())})


def _new_places(number: int, kept: IntArray) -> IntArray:
    places = np.full(number, -1, dtype=np.int64)
    places[kept] = np.arange(len(kept))
    return places


def merge(parts: Sequence[OverlapCounts]) -> OverlapCounts:
    """Join the counts of several images or shards, in this order."""
    if not parts:
        raise DataError("there are no images to score")
    sizes = [(len(p.image_ids), len(p.truths), len(p.detections)) for p in parts]
    image, truth, found = np.cumsum([(0, 0, 0), *sizes[:-1]], axis=0).T.tolist()
    shift = [np.array([n, 0, 0, 0]) for n in image]
    return OverlapCounts(
        tuple(image_id for part in parts for image_id in part.image_ids),
        np.concatenate([p.truths + s for p, s in zip(parts, shift, strict=True)]),
        np.concatenate([p.detections + s for p, s in zip(parts, shift, strict=True)]),
        np.concatenate([p.scores for p in parts]),
        np.concatenate(
            [p.pairs + np.array([d, t, 0]) for p, d, t in zip(parts, found, truth, strict=True)]
        ),
    )


@dataclass(frozen=True, eq=False)
class Examples:
    """What the precision-recall curve of one class is made of, at one threshold.

    ``score`` float64 [n], ``hit`` bool [n] and ``image`` int64 [n] of the detections that count;
    ``missed`` int64: the image of each truth that nothing matches.
    """

    score: FloatArray
    hit: BoolArray
    image: IntArray
    missed: IntArray


@dataclass(frozen=True, eq=False)
class ClassOverlaps:
    """The rows of one class; ``pair_*`` index into its own truths and detections."""

    truths: IntArray
    detections: IntArray
    scores: FloatArray
    pair_detection: IntArray
    pair_truth: IntArray
    pair_pixels: IntArray

    @property
    def counted(self) -> BoolArray:
        """Truths that count: single objects of the smallest size or more."""
        wanted: BoolArray = (self.truths[:, 3] == 0) & (self.truths[:, 2] >= MIN_PIXELS)
        return wanted


def of_class(counts: OverlapCounts, label_id: int) -> ClassOverlaps:
    """Return the truths, detections and pairs of a label id."""
    truths = np.flatnonzero(counts.truths[:, 1] == label_id)
    found = np.flatnonzero(counts.detections[:, 1] == label_id)
    pairs = counts.pairs[counts.detections[counts.pairs[:, 0], 1] == label_id]
    return ClassOverlaps(
        counts.truths[truths],
        counts.detections[found],
        counts.scores[found],
        np.searchsorted(found, pairs[:, 0]),
        np.searchsorted(truths, pairs[:, 1]),
        pairs[:, 2],
    )


def examples_of(rows: ClassOverlaps) -> Iterator[Examples]:
    """Yield the curve's examples at each threshold of ``OVERLAPS``.

    The best detection over a truth that counts is a hit, every further one is false. One over
    a group or a small truth is ignored; so is one over nothing whose share on void, groups and
    small truths is above the threshold (a small group counts twice there, as officially).
    """
    d, t, shared = rows.pair_detection, rows.pair_truth, rows.pair_pixels
    union = rows.truths[t, 2] + rows.detections[d, 2] - shared
    overlap = shared / union
    counted = rows.counted
    group, small = rows.truths[t, 3] == 1, rows.truths[t, 2] < MIN_PIXELS
    unwanted = rows.detections[:, 3].copy()
    np.add.at(unwanted, d, shared * (group.astype(np.int64) + small))
    share = unwanted / rows.detections[:, 2]
    for threshold in OVERLAPS:
        over = overlap > threshold
        free = np.ones(len(rows.detections), dtype=bool)
        free[d[over]] = False
        false = np.flatnonzero(free & (share <= threshold))
        matched = over & counted[t]
        yield _examples(rows, d[matched], t[matched], false)


def _examples(rows: ClassOverlaps, found: IntArray, truth: IntArray, false: IntArray) -> Examples:
    """Join matches [m] of detections with truths that count, and false detections."""
    order = np.lexsort((-rows.scores[found], truth))
    found, truth = found[order], truth[order]
    first = np.ones(len(truth), dtype=bool)
    first[1:] = truth[1:] != truth[:-1]
    missed = rows.counted.copy()
    missed[truth] = False
    every = np.concatenate([found, false])
    return Examples(
        rows.scores[every],
        np.concatenate([first, np.zeros(len(false), dtype=bool)]),
        rows.detections[every, 0],
        rows.truths[missed, 0],
    )


def average_precision(examples: Examples, *, has_truth: bool) -> float:
    """Return the area under the stepwise precision-recall curve; NaN without truth."""
    if not has_truth:
        return float("nan")
    if not len(examples.score):
        return 0.0
    order = np.argsort(examples.score, kind="stable")
    cumulated = np.cumsum(examples.hit[order].astype(np.float64))
    first = np.unique(examples.score[order], return_index=True)[1]
    before = np.append(0.0, cumulated)[first]
    hits = cumulated[-1] - before
    precision = hits / (len(order) - first)
    recall = hits / (hits + (before + len(examples.missed)))
    return _area(np.append(precision, 1.0), np.append(recall, 0.0))


def _area(precision: FloatArray, recall: FloatArray) -> float:
    """Integrate: each precision holds over half the recall to either side of it."""
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(np.dot(precision, np.convolve(padded, _STEP, "valid")))


def ap_matrix(counts: OverlapCounts) -> FloatArray:
    """Return AP of each class and threshold [8, 10], NaN for classes without truth."""
    rows = []
    for label_id in THING_IDS:
        one = of_class(counts, label_id)
        has_truth = bool(one.counted.any())
        rows.append([average_precision(e, has_truth=has_truth) for e in examples_of(one)])
    return np.array(rows)


def scores(counts: OverlapCounts, protocol: Protocol) -> dict[str, Any]:
    """Return ``ap``, ``ap50`` and ``per_class`` with both; None without truth.

    Raises:
        ConfigError: The protocol does not score Cityscapes overlaps.
    """
    if protocol.task != "instance" or protocol.overlaps != "cityscapes":
        raise ConfigError(
            f"protocol '{protocol.id}' does not score Cityscapes overlaps",
            fix="score the files again under that protocol",
        )
    found = averages(ap_matrix(counts))
    rows = [found["classes"][name] for name in THING_NAMES]
    return {
        "ap": _known(found["allAp"]),
        "ap50": _known(found["allAp50%"]),
        "per_class": [{"ap": _known(r["ap"]), "ap50": _known(r["ap50%"])} for r in rows],
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def averages(matrix: FloatArray) -> dict[str, Any]:
    """Return the official averages of ``ap_matrix``, under the official keys."""
    every = matrix[None]
    at_half = np.where(np.isclose(OVERLAPS, 0.5))
    classes = {
        name: {
            "ap": float(np.average(every[0, k, :])),
            "ap50%": float(np.average(every[0, k, at_half])),
        }
        for k, name in enumerate(THING_NAMES)
    }
    all_classes = [every[0, :, :], every[0, :, at_half]]
    means = [_nanmean(values) for values in all_classes]
    return {"allAp": means[0], "allAp50%": means[1], "classes": classes}


def _nanmean(values: FloatArray) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))


def results(counts: OverlapCounts) -> dict[str, Any]:
    """Return the official results file of the instance-level task."""
    matrix = ap_matrix(counts)
    return {
        "averages": averages(matrix),
        "overlaps": OVERLAPS.tolist(),
        "minRegionSizes": [MIN_PIXELS, 1000, 1000],
        "distanceThresholds": [float("inf"), 100.0, 50.0],
        "minStereoDensities": [float("-inf"), 0.5, 0.5],
        "instLabels": list(THING_NAMES),
        "resultApMatrix": matrix[None].tolist(),
    }


def image_scores(
    counts: OverlapCounts, *, min_score: float = MIN_SCORE
) -> dict[ImageId, float | None]:
    """Return F1 at overlap 0.5 of each image, over detections of at least ``min_score``.

    None where the image has neither counted truths nor such detections.
    """
    hits, false, truths = np.zeros((3, len(counts.image_ids)), dtype=np.int64)
    for label_id in THING_IDS:
        rows = of_class(counts, label_id)
        examples = next(examples_of(rows))
        sure = examples.score >= min_score
        np.add.at(hits, examples.image[sure & examples.hit], 1)
        np.add.at(false, examples.image[sure & ~examples.hit], 1)
        np.add.at(truths, rows.truths[rows.counted, 0], 1)
    table = zip(hits.tolist(), false.tolist(), truths.tolist(), strict=True)
    values = [2 * tp / (tp + fp + n) if tp + fp + n else None for tp, fp, n in table]
    return dict(zip(counts.image_ids, values, strict=True))
