"""The matching rules of panoptic quality, on one image's pairs of segment ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from segbench.core.errors import DataError
from segbench.core.types import VOID, ImageId, IntArray
from segbench.evaluation.counting.runs import ID_BITS, count_id_pairs

Segments = Sequence[Mapping[str, Any]]
"""``segments_info`` of COCO panoptic JSON."""
OFFSET = 1 << ID_BITS
"""Segment ids are below this; a pair's key is truth id * OFFSET + predicted id."""
Pairs = dict[tuple[int, int], int]
"""Pixels of each (truth id, predicted id) that occurs, in ascending order."""


@dataclass(frozen=True)
class Segment:
    """What matching needs to know; ``category`` is a class index, ``area`` in pixels."""

    category: int
    area: int
    iscrowd: bool = False


def count_pairs(truth: IntArray, prediction: IntArray) -> Pairs:
    """Return the pixels of each (truth id, predicted id), ascending."""
    keys, pixels = count_id_pairs(truth, prediction)
    return {divmod(key, OFFSET): n for key, n in zip(keys.tolist(), pixels.tolist(), strict=True)}


def areas_of(pairs: Pairs, side: int) -> dict[int, int]:
    """Return the pixels of each true (side 0) or predicted (side 1) id."""
    areas: dict[int, int] = {}
    for pair, pixels in pairs.items():
        areas[pair[side]] = areas.get(pair[side], 0) + pixels
    return areas


@dataclass(frozen=True)
class ImageSegments:
    """Checks one image's segment lists and turns them into ``Segment`` by id."""

    image_id: ImageId
    class_of: Mapping[int, int]
    strict: bool

    def truths(self, segments: Segments, areas: Mapping[int, int]) -> dict[int, Segment]:
        """Return the true segments by id; ``areas`` are those counted in the map."""
        found: dict[int, Segment] = {}
        for segment_id, info in self._by_id(segments, "truth").items():
            if self.strict and info["category_id"] not in self.class_of:
                continue
            crowd = self._field(info, "iscrowd", "truth") == 1
            area = self._json_area(info) if self.strict else areas.get(segment_id, 0)
            found[segment_id] = Segment(self._category(info, "truth"), area, crowd)
        return found

    def predictions(self, segments: Segments, areas: Mapping[int, int]) -> dict[int, Segment]:
        """Return the predicted segments by id; map and list must hold the same ids."""
        by_id = self._by_id(segments, "prediction")
        self._compare(set(areas) - set(by_id) - {VOID}, "in the PNG but not in the JSON")
        self._compare(set(by_id) - set(areas), "in the JSON but not in the PNG")
        return {
            segment_id: Segment(self._category(info, "prediction"), areas[segment_id])
            for segment_id, info in by_id.items()
        }

    def _by_id(self, segments: Segments, side: str) -> dict[int, Mapping[str, Any]]:
        by_id: dict[int, Mapping[str, Any]] = {}
        for info in segments:
            segment_id = self._field(info, "id", side)
            if not self.strict and (segment_id in by_id or not 0 < segment_id < OFFSET):
                self._fail(side, f"segment id {segment_id} is repeated or not 1 to {OFFSET - 1}")
            by_id[segment_id] = info
        return by_id

    def _category(self, info: Mapping[str, Any], side: str) -> int:
        category_id = self._field(info, "category_id", side)
        if category_id not in self.class_of:
            self._fail(
                side,
                f"segment {info['id']} has the unknown category_id {category_id}; "
                f"known are {sorted(self.class_of)[:5]}...",
            )
        return self.class_of[category_id]

    def _json_area(self, info: Mapping[str, Any]) -> int:
        area = self._field(info, "area", "truth")
        if area != int(area):
            self._fail("truth", f"segment {info['id']} has the area {area}, not whole pixels")
        return int(area)

    def _compare(self, ids: set[int], problem: str) -> None:
        if ids:
            examples = sorted(ids)[:3]
            self._fail("prediction", f"{len(ids)} segment ids are {problem}, first {examples}")

    def _field(self, info: Mapping[str, Any], key: str, side: str) -> Any:
        if key not in info:
            self._fail(side, f"a segment has no '{key}': {dict(info)}")
        return info[key]

    def _fail(self, side: str, problem: str) -> NoReturn:
        raise DataError(f"image {self.image_id}, {side}: {problem}")


def match_segments(
    truths: Mapping[int, Segment], predictions: Mapping[int, Segment], pairs: Pairs
) -> list[tuple[int, ...]]:
    """Return a row of ``PanopticCounts.matches`` for each match, by (truth id, predicted id)."""
    matches: list[tuple[int, ...]] = []
    for (truth_id, predicted_id), intersection in pairs.items():
        truth, predicted = truths.get(truth_id), predictions.get(predicted_id)
        if truth is None or predicted is None or truth.iscrowd:
            continue
        if truth.category != predicted.category:
            continue
        union = predicted.area + truth.area - intersection - pairs.get((VOID, predicted_id), 0)
        if _above_half(intersection, union):
            row = (0, truth.category, truth_id, predicted_id, intersection, union)
            matches.append(row)
    return matches


def _above_half(part: int, whole: int) -> bool:
    """Whether part / whole > 1/2; a whole of 0 (wrong areas in a JSON) counts as infinite IoU."""
    return part > 0 if whole == 0 else part / whole > 0.5


def find_errors(
    truths: Mapping[int, Segment],
    predictions: Mapping[int, Segment],
    pairs: Pairs,
    matches: Sequence[tuple[int, ...]],
    strict: bool,
) -> dict[int, list[int]]:
    """Return [false positives, false negatives] by class index, where either is not 0."""
    matched_truths = {row[2] for row in matches}
    matched_predictions = {row[3] for row in matches}
    errors: dict[int, list[int]] = {}
    crowds: dict[int, list[int]] = {}
    for segment_id, truth in truths.items():
        if truth.iscrowd:
            earlier = [] if strict else crowds.get(truth.category, [])
            crowds[truth.category] = [*earlier, segment_id]
        elif segment_id not in matched_truths:
            errors.setdefault(truth.category, [0, 0])[1] += 1
    for segment_id, predicted in predictions.items():
        excuses = (VOID, *crowds.get(predicted.category, ()))
        excused = sum(pairs.get((excuse, segment_id), 0) for excuse in excuses)
        if segment_id not in matched_predictions and not _above_half(excused, predicted.area):
            errors.setdefault(predicted.category, [0, 0])[0] += 1
    return errors
