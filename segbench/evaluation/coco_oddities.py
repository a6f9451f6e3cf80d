"""What is odd in COCO instance files though it can be scored: warnings, not errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from segbench.evaluation._file_checks import EXAMPLES, Entry

ROUNDING = 1.0
"""Pixels by which tools may round the area of a mask."""


def instance_oddities(
    truth: Mapping[str, Any], detections: Sequence[Entry], *, truth_json: Path, results_json: Path
) -> list[str]:
    """Return a warning for each kind of oddity in files that ``load_instances`` has checked.

    Areas decide which objects are small, medium and large. Detections that repeat another one
    are false positives: files of two shards were joined, or one twice. Category 0 is the
    background of many tools, which then lack a class or count all others one too low.
    """
    found = {
        f"{truth_json}: {{}} annotations have another area than their mask": _wrong_areas(
            truth["annotations"]
        ),
        f"{results_json}: {{}} detections repeat another one in all fields": _copies(detections),
        f"{truth_json}: {{}} categories have the id 0, which many tools keep for background": [
            f"'{category.get('name', '')}'" for category in truth["categories"]
            if category["id"] == 0
        ],
    }  # fmt: skip
    return [
        f"{text.format(len(examples))}; first {', '.join(examples[:EXAMPLES])}"
        for text, examples in found.items()
        if examples
    ]


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
