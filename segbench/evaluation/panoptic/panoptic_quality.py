"""Panoptic quality: matched segments per image as integers, ratios only at the end.

The rules are panopticapi's. A matched pair is kept as its two areas, intersection and
union, so every score can be computed again from ``PanopticCounts`` alone.

Sums of IoU run over images in the order of the ground truth file and inside an image by (truth
id, predicted id), one addition after the other. That equals panopticapi's single-process
result bit for bit, and because each image carries its position, it does not depend on how
the images were split over workers (panopticapi's own last bits depend on the core count).

``strict_compat`` follows panopticapi where it is careless: areas of true segments come
from the JSON, only the last crowd of a category excuses predictions, true segments of
unknown categories, repeated segment ids and segments called 0 pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import BoolArray, CategoryTable, ImageId, IntArray
from segbench.evaluation.counting.runs import join_rows
from segbench.evaluation.panoptic.boundary import add_boundaries, count_boundary_pairs
from segbench.evaluation.panoptic.matching import (
    ImageSegments,
    Segments,
    areas_of,
    count_pairs,
    find_errors,
    match_segments,
)
from segbench.evaluation.protocol import Protocol


@dataclass(frozen=True, eq=False)
class PanopticCounts:
    """Matches and errors of each image; class indices are positions in ``category_ids``.

    ``positions`` int64 [images]: place of each image in the ground truth file. ``matches`` int64
    [n, 6]: image index, class index, truth id, predicted id, intersection, union; [n, 9] where
    boundaries are counted too (``boundary_panoptic.add_boundaries``).
    ``errors`` int64 [m, 4]: image index, class index, false positives, false negatives.
    """

    category_ids: tuple[int, ...]
    isthing: BoolArray
    image_ids: tuple[ImageId, ...]
    positions: IntArray
    matches: IntArray
    errors: IntArray

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        return merge([self, other])

    def subset(self, image_ids: Iterable[ImageId]) -> PanopticCounts:
        """Return the counts of some images, in the order they have here."""
        wanted = set(image_ids)
        return self._take([i for i, image in enumerate(self.image_ids) if image in wanted])

    def _take(self, kept: Sequence[int]) -> PanopticCounts:
        """Return the counts of the images at these indices, in this order."""
        index = np.full(len(self.image_ids), -1, dtype=np.int64)
        index[kept] = np.arange(len(kept))
        return PanopticCounts(
            self.category_ids,
            self.isthing,
            tuple(self.image_ids[i] for i in kept),
            self.positions[kept],
            _reindex(self.matches, index),
            _reindex(self.errors, index),
        )

    def in_file_order(self) -> PanopticCounts:
        """Return the same counts with the images in the order of the ground truth file."""
        return self._take(np.argsort(self.positions, kind="stable").tolist())

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays for storage."""
        return {
            "category_ids": np.array(self.category_ids, dtype=np.int64),
            "isthing": self.isthing,
            "image_ids": np.array(self.image_ids),
            "positions": self.positions,
            "matches": self.matches,
            "errors": self.errors,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> PanopticCounts:
        """Return the counts that ``to_arrays`` took apart."""
        return cls(
            tuple(arrays["category_ids"].tolist()),
            arrays["isthing"],
            tuple(arrays["image_ids"].tolist()),
            arrays["positions"],
            arrays["matches"],
            arrays["errors"],
        )


def _reindex(rows: IntArray, index: IntArray) -> IntArray:
    """Renumber the images of table rows, drop those of images left out, sort by image."""
    images = index[rows[:, 0]]
    kept = rows[images >= 0].copy()
    kept[:, 0] = images[images >= 0]
    ordered: IntArray = kept[np.argsort(kept[:, 0], kind="stable")]
    return ordered


def merge(parts: Sequence[PanopticCounts]) -> PanopticCounts:
    """Join the counts of several images or shards of one category table."""
    if len({part.category_ids for part in parts}) != 1:
        raise DataError("panoptic counts to be added need the same categories")
    images = [len(part.image_ids) for part in parts]
    return PanopticCounts(
        parts[0].category_ids,
        parts[0].isthing,
        tuple(image_id for part in parts for image_id in part.image_ids),
        np.concatenate([part.positions for part in parts]),
        join_rows([part.matches for part in parts], images),
        join_rows([part.errors for part in parts], images),
    )


def count(
    truth: IntArray,
    prediction: IntArray,
    *,
    truth_segments: Segments,
    predicted_segments: Segments,
    categories: CategoryTable,
    image_id: ImageId = 0,
    position: int = 0,
    strict_compat: bool = False,
    boundary: bool = False,
) -> PanopticCounts:
    """Match the segments of one image.

    Args:
        truth: Segment ids [H, W], 0 void; ids that no segment has match nothing.
        prediction: Segment ids [H, W] of the same size, 0 void.
        truth_segments: ``id``, ``category_id``, ``iscrowd`` (and ``area``) of each.
        predicted_segments: ``id`` and ``category_id`` of each.
        categories: The categories of the ground truth file.
        image_id: Named in errors and in the stored counts.
        position: Place of the image in the ground truth file; decides the order of sums.
        strict_compat: See the module's docstring.
        boundary: Count the boundaries of matches too, for Boundary PQ.

    Raises:
        DataError: Sizes differ, ids of map and list disagree, a category is unknown or a
            field is missing.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"image {image_id}: expected a panoptic map of {truth.shape} (height, width), "
            f"found {prediction.shape}",
            fix="write predictions at the original size of each image",
        )
    class_of = {category_id: i for i, category_id in enumerate(categories.category_ids)}
    image = ImageSegments(image_id, class_of, strict_compat)
    pairs = count_pairs(truth, prediction)
    truths = image.truths(truth_segments, areas_of(pairs, 0))
    predictions = image.predictions(predicted_segments, areas_of(pairs, 1))
    matches = match_segments(truths, predictions, pairs)
    errors = find_errors(truths, predictions, pairs, matches, strict_compat)
    if boundary:
        found = count_boundary_pairs(truth, prediction)
        matches = add_boundaries(matches, found, truths, predictions, pairs, strict_compat)
    return PanopticCounts(
        categories.category_ids,
        np.array([category.isthing for category in categories.categories], dtype=bool),
        (image_id,),
        np.array([position], dtype=np.int64),
        np.array(matches, dtype=np.int64).reshape(-1, 9 if boundary else 6),
        np.array([[0, k, *errors[k]] for k in sorted(errors)], dtype=np.int64).reshape(-1, 4),
    )


def scores(counts: PanopticCounts, protocol: Protocol) -> dict[str, Any]:
    """Turn counts into scores.

    Returns:
        ``pq``, ``sq``, ``rq`` (fractions, None where no category has a segment) and ``n``
        (categories in the mean) over all categories, the same with ``_things`` and
        ``_stuff`` appended, and ``per_class``: a dict a category with ``pq``, ``sq``,
        ``rq`` (None where it has no segment), ``tp``, ``fp``, ``fn``.

    Raises:
        ConfigError: The protocol is for another task or other categories.
    """
    if protocol.task != "panoptic":
        raise ConfigError(f"protocol '{protocol.id}' scores {protocol.task}, not panoptic")
    if protocol.category_ids and set(counts.category_ids) != set(protocol.category_ids):
        differing = sorted(set(counts.category_ids) ^ set(protocol.category_ids))
        raise ConfigError(
            f"protocol '{protocol.id}' has the category ids {list(protocol.category_ids)}; the "
            f"truth differs in {differing[:5]}",
            fix="use label ids as category ids, or score under coco-panoptic",
        )
    rows = _per_class(counts)
    things = [row for row, isthing in zip(rows, counts.isthing, strict=True) if isthing]
    stuff = [row for row, isthing in zip(rows, counts.isthing, strict=True) if not isthing]
    groups = {"": rows, "_things": things, "_stuff": stuff}
    result = {key: value for s, group in groups.items() for key, value in _average(group, s)}
    return {**result, "per_class": rows}


def _per_class(counts: PanopticCounts) -> list[dict[str, Any]]:
    ordered = counts.in_file_order()
    size = len(counts.category_ids)
    classes, inter, union = ordered.matches[:, 1], ordered.matches[:, 4], ordered.matches[:, 5]
    with np.errstate(divide="ignore"):
        # bincount adds one weight after the other: the order of sums panopticapi has.
        iou = np.bincount(classes, weights=inter / union, minlength=size)
    tp = np.bincount(classes, minlength=size)
    fp, fn = np.zeros((2, size), dtype=np.int64)
    np.add.at(fp, ordered.errors[:, 1], ordered.errors[:, 2])
    np.add.at(fn, ordered.errors[:, 1], ordered.errors[:, 3])
    columns = (iou.tolist(), tp.tolist(), fp.tolist(), fn.tolist())
    return [_class_row(*row) for row in zip(*columns, strict=True)]


def _class_row(iou: float, tp: int, fp: int, fn: int) -> dict[str, Any]:
    row: dict[str, Any] = {"pq": None, "sq": None, "rq": None, "tp": tp, "fp": fp, "fn": fn}
    if tp + fp + fn:
        weight = tp + 0.5 * fp + 0.5 * fn
        row |= {"pq": iou / weight, "sq": iou / tp if tp else 0.0, "rq": tp / weight}
    return row


def _average(rows: Sequence[Mapping[str, Any]], suffix: str) -> list[tuple[str, Any]]:
    present = [row for row in rows if row["pq"] is not None]
    n = len(present)
    result: list[tuple[str, Any]] = []
    for key in ("pq", "sq", "rq"):
        total = 0.0
        for row in present:  # not sum(): newer Pythons compensate it, panopticapi's loop did not
            total += row[key]
        result.append((key + suffix, total / n if n else None))
    return [*result, ("n" + suffix, n)]


def image_scores(counts: PanopticCounts) -> dict[ImageId, float | None]:
    """Return the PQ of each image on its own: the mean over the categories it shows."""
    result: dict[ImageId, float | None] = {}
    for i, image_id in enumerate(counts.image_ids):
        pq = dict(_average(_per_class(counts._take([i])), ""))["pq"]
        result[image_id] = pq
    return result
