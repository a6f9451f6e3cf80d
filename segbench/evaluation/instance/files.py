"""COCO instance files, checked completely before any number is computed from them.

pycocotools gives a plausible number for many broken files: 0 for a wrong category id, a
wrong-size mask or an annotation called 0, and a perfect score for a NaN. Every such file
is refused here with the number of faults and the first three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.evaluation.file_checks import (
    Entry,
    Rule,
    check,
    expect_list,
    is_finite,
    is_id,
    is_integer,
    lacks,
    repeats,
    shown,
)

IouType = Literal["segm", "bbox"]


@dataclass(frozen=True)
class InstanceFiles:
    """A COCO truth and the detections to be scored on it, both free of known faults."""

    truth: dict[str, Any]
    detections: list[Entry]


def load_instances(truth_json: Path, results_json: Path, *, iou_type: IouType) -> InstanceFiles:
    """Read and check a COCO instances JSON and a COCO results JSON.

    Raises:
        DataError: Naming the file, every kind of fault, how often and the first three.
    """
    truth = read_json(truth_json)
    sizes = _read_sizes(truth, truth_json)
    categories = _ids(truth["categories"], truth_json, "categories")
    place = _PlaceRules(sizes, categories)
    _check_truth(truth["annotations"], truth_json, place, iou_type)
    detections = read_json(results_json)
    expect_list(detections, results_json, "detections")
    _check_detections(detections, results_json, place, iou_type)
    return InstanceFiles(truth, detections)


def _read_sizes(truth: Any, source: Path) -> dict[Any, tuple[int, int]]:
    """Return (height, width) of each image id of a COCO truth."""
    if not isinstance(truth, dict):
        raise DataError(f"{source}: expected a COCO object, found {type(truth).__name__}")
    for key in ("images", "annotations", "categories"):
        expect_list(truth.get(key), source, key)
    images = truth["images"]
    if not images:
        raise DataError(f"{source}: there are no images to score")
    check(images, source, "images", {"lack a field": lacks("id", "height", "width")})
    rules: dict[str, Rule] = {
        "have an id that is no integer or text, or not of the first one's kind": _bad_image_id(
            images[0]["id"]
        ),
        "repeat the id of an earlier one": repeats(),
        "have a height or width that is no integer from 1": _bad_size,
    }
    check(images, source, "images", rules)
    return {image["id"]: (image["height"], image["width"]) for image in truth["images"]}


def _ids(entries: Sequence[Entry], source: Path, what: str) -> set[Any]:
    check(entries, source, what, {"lack a field": lacks("id")})
    rules: dict[str, Rule] = {
        "have an id that is no integer": _bad_integer_id,
        "repeat the id of an earlier one": repeats(),
    }
    check(entries, source, what, rules)
    return {entry["id"] for entry in entries}


def _bad_image_id(first: Any) -> Rule:
    def rule(entry: Entry) -> str | None:
        right = is_id(entry["id"]) and isinstance(entry["id"], str) == isinstance(first, str)
        return None if right else f"id {shown(entry['id'])}"

    return rule


def _bad_size(entry: Entry) -> str | None:
    right = all(is_integer(entry[key]) and entry[key] >= 1 for key in ("height", "width"))
    found = f"height {shown(entry['height'])}, width {shown(entry['width'])}"
    return None if right else found


def _bad_integer_id(entry: Entry) -> str | None:
    return None if is_integer(entry["id"]) else f"id {shown(entry['id'])}"


@dataclass(frozen=True)
class _PlaceRules:
    """Rules that need the ground truth's images and categories."""

    sizes: Mapping[Any, tuple[int, int]]
    categories: set[Any]

    def image(self, entry: Entry) -> str | None:
        known = is_id(entry["image_id"]) and entry["image_id"] in self.sizes
        return None if known else f"image_id {shown(entry['image_id'])}"

    def category(self, entry: Entry) -> str | None:
        known = is_id(entry["category_id"]) and entry["category_id"] in self.categories
        return None if known else f"category_id {shown(entry['category_id'])}"

    def mask(self, entry: Entry) -> str | None:
        """Accept an RLE mask of the image's size whose runs fill it."""
        mask = entry["segmentation"]
        if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
            return f"{type(mask).__name__} where an RLE object is expected"
        height, width = self.sizes[entry["image_id"]]
        if mask["size"] != [height, width]:
            return f"size {shown(mask['size'])} on an image of {[height, width]}"
        pixels = _rle_pixels(mask["counts"])
        if pixels < 0:
            return "run lengths that cannot be decoded"
        if pixels != height * width:
            return f"runs over {pixels} of {height * width} pixels"
        return None

    def mask_or_polygons(self, entry: Entry) -> str | None:
        polygons = entry["segmentation"]
        if not isinstance(polygons, list):
            return self.mask(entry)
        right = polygons and all(
            isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(is_finite, p))
            for p in polygons
        )
        return None if right else "a polygon that is no list of at least 3 points"

    @property
    def fix(self) -> str:
        known = sorted(self.categories, key=str)[:5]
        return (
            "use the ids of the truth file (its category ids start "
            f"{', '.join(map(str, known))}), masks at each image's own size, scores in [0, 1]"
        )


def _bad_score(entry: Entry) -> str | None:
    score = entry["score"]
    return None if is_finite(score) and 0 <= score <= 1 else f"score {shown(score)}"


def bad_box(entry: Entry) -> str | None:
    """Accept four finite numbers, width and height from 0."""
    box = entry["bbox"]
    right = isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))
    return None if right and box[2] >= 0 and box[3] >= 0 else f"bbox {shown(box)}"


def _bad_detection_id(entry: Entry) -> str | None:
    """Accept detections without an id: they are numbered in file order."""
    return None if "id" not in entry or is_id(entry["id"]) else f"id {shown(entry['id'])}"


def _bad_truth_id(entry: Entry) -> str | None:
    right = is_integer(entry["id"]) and entry["id"] >= 1
    return None if right else f"id {shown(entry['id'])}"


def _bad_area(entry: Entry) -> str | None:
    area = entry["area"]
    return None if is_finite(area) and area >= 0 else f"area {shown(area)}"


def _bad_crowd(entry: Entry) -> str | None:
    return None if entry["iscrowd"] in (0, 1) else f"iscrowd {shown(entry['iscrowd'])}"


def _rle_pixels(counts: Any) -> int:
    """Return the pixels an RLE covers, from its runs; -1 where it is not decodable."""
    if isinstance(counts, list):
        right = all(is_integer(run) and run >= 0 for run in counts)
        return sum(counts) if right else -1
    if not isinstance(counts, str) or not counts.isascii():
        return -1
    codes = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - ord("0")
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return -1
    runs = _decode_runs(codes)
    return int(runs.sum()) if runs.min() >= 0 else -1


def _decode_runs(codes: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, Any]:
    """Return the run lengths of COCO's compressed counts.

    A number is groups of 5 bits, lowest first; bit 5 says that more follow, bit 4 of the last
    group is the sign. From the fourth number on, each is the change to the run two before.
    """
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = ends - starts + 1
    place = np.arange(len(codes)) - np.repeat(starts, groups)
    values = np.add.reduceat((codes & 31) << np.minimum(5 * place, 50), starts)
    values -= np.where(codes[ends] & 16, 1 << np.minimum(5 * groups, 50), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _check_truth(
    annotations: Sequence[Entry], source: Path, place: _PlaceRules, iou_type: IouType
) -> None:
    fields = ["id", "image_id", "category_id", "area", "iscrowd", "bbox"]
    fields += ["segmentation"] if iou_type == "segm" else []
    check(annotations, source, "annotations", {"lack a field": lacks(*fields)})
    rules: dict[str, Rule] = {
        "have an id that is no integer from 1 (0 would never match)": _bad_truth_id,
        "repeat the id of an earlier one": repeats(),
        "are on an unknown image": place.image,
        "have an unknown category": place.category,
        "have an impossible area": _bad_area,
        "have an iscrowd that is not 0 or 1": _bad_crowd,
        "have an impossible box": bad_box,
    }
    check(annotations, source, "annotations", rules)
    if iou_type == "segm":
        rules = {"have a broken mask": place.mask_or_polygons}
        check(annotations, source, "annotations", rules)


def _check_detections(
    detections: Sequence[Entry], source: Path, place: _PlaceRules, iou_type: IouType
) -> None:
    shape = _scored_field(detections, iou_type)
    required = lacks("image_id", "category_id", "score", shape)
    check(detections, source, "detections", {"lack a field": required})
    rules: dict[str, Rule] = {
        "are on an unknown image": place.image,
        "have an unknown category": place.category,
        "have a score that is no number in [0, 1]": _bad_score,
        "have an id that is no integer or text": _bad_detection_id,
        "repeat the id of an earlier one": repeats(),
    }
    check(detections, source, "detections", rules, fix=place.fix)
    rules = {"have a broken mask": place.mask}
    if shape == "bbox":
        rules = {"have an impossible box": bad_box}
    check(detections, source, "detections", rules, fix=place.fix)


def _scored_field(detections: Sequence[Entry], iou_type: IouType) -> str:
    """Return the field the shape is read from: boxes come from masks if no detection has one."""
    if iou_type == "bbox" and any("bbox" in detection for detection in detections):
        return "bbox"
    return "segmentation" if iou_type == "segm" or detections else "bbox"


def compress_masks(detections: Iterable[Entry], sizes: Mapping[Any, tuple[int, int]]) -> None:
    """Replace uncompressed run lists by compressed ones, in place: pycocotools wants those."""
    for detection in detections:
        mask = detection.get("segmentation")
        if isinstance(mask, dict) and isinstance(mask.get("counts"), list):
            size = sizes[detection["image_id"]]
            detection["segmentation"] = coco_mask.frPyObjects(mask, *size)
