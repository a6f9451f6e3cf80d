"""What is odd in COCO instance files though it can be scored: warnings, not errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from segbench.evaluation.file_checks import EXAMPLES, Entry
from segbench.evaluation.instance.files import bad_box

ROUNDING = 1.0
"""Pixels by which tools may round the area of a mask or the end of a box."""


BEYOND = 0.25
"""Share of boxes reaching beyond their image from which they are probably not x, y, w, h."""


def instance_oddities(
    truth: Mapping[str, Any], detections: Sequence[Entry], *, truth_json: Path, results_json: Path
) -> list[str]:
    """Return a warning for each kind of oddity in files that ``load_instances`` has checked.

    Areas decide which objects are small, medium and large. Detections that repeat another one
    are false positives: files of two shards were joined, or one twice. Category 0 is the
    background of many tools, which then lack a class or count all others one too low. Boxes
    written as two corners have a plausible, low score.
    """
    annotations, categories = truth["annotations"], truth["categories"]
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    background = [f"'{c.get('name', '')}'" for c in categories if c["id"] == 0]
    corners = "boxes reach beyond their image: x, y, width and height are due, not corners"
    found = [
        (truth_json, "annotations have another area than their mask", _wrong_areas(annotations)),
        (truth_json, corners, _beyond(annotations, sizes)),
        (truth_json, "categories have the id 0, which many tools keep for background", background),
        (results_json, "detections repeat another one in all fields", _copies(detections)),
        (results_json, corners, _beyond(detections, sizes)),
    ]
    return [
        f"{source}: {len(examples)} {problem}; first {', '.join(examples[:EXAMPLES])}"
        for source, problem, examples in found
        if examples
    ]


def _beyond(entries: Sequence[Entry], sizes: Mapping[Any, tuple[int, int]]) -> list[str]:
    """Return the boxes that leave their image, where they are more than a few.

    Boxes may be unchecked when masks alone are scored; those that are none are passed over.
    """
    found = []
    for index, entry in enumerate(entries):
        if "bbox" not in entry or bad_box(entry):
            continue
        height, width = sizes[entry["image_id"]]
        x, y, w, h = entry["bbox"]
        if min(x, y) < -ROUNDING or x + w > width + ROUNDING or y + h > height + ROUNDING:
            found.append(f"[{index}] {[x, y, w, h]} on {width}x{height}")
    return found if len(found) > BEYOND * len(entries) else []


def _wrong_areas(annotations: Sequence[Entry]) -> list[str]:
    return [
        f"id {entry['id']}: {entry['area']}, mask {area}"
        for entry in annotations
        if (area := _mask_area(entry["segmentation"])) is not None
        and abs(area - entry["area"]) > ROUNDING
    ]


def _mask_area(mask: Any) -> int | None:
    """Return the pixels of an RLE mask; None for polygons, whose area is no whole number."""
    if isinstance(mask, list):
        return None
    if isinstance(mask["counts"], list):
        return sum(mask["counts"][1::2])
    return int(coco_mask.area(mask))


def _copies(detections: Sequence[Entry]) -> list[str]:
    seen: set[tuple[Any, ...]] = set()
    found = []
    for index, entry in enumerate(detections):
        mask = entry["segmentation"]["counts"]
        key = (
            entry["image_id"],
            entry["category_id"],
            entry["score"],
            mask if isinstance(mask, str) else tuple(mask),
        )
        if key in seen:
            found.append(f"[{index}] on image {entry['image_id']}")
        seen.add(key)
    return found
