"""What never counts in COCO instance files that were read: too many objects, none to be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools.cocoeval import Params

from segbench.core.types import BoolArray, IntArray
from segbench.evaluation.file_checks import EXAMPLES
from segbench.evaluation.instance.items import CellIndex, InstanceTable
from segbench.evaluation.instance.shapes import Boxes, Masks

LIMIT = int(Params(iouType="segm").maxDets[-1])
"""Detections of a category on an image that COCO counts, the best ones: 100."""


def table_oddities(table: InstanceTable, *, truth_json: Path, results_json: Path) -> list[str]:
    """Return a warning for each kind of entry that cannot count, whatever the other file holds.

    Args:
        table: The two files as they were read.
        truth_json: COCO instances JSON, named in warnings.
        results_json: COCO results JSON, named in warnings.
    """
    truths, found, place = table.truths, table.detections, table.place
    of_truth = [
        _many_truths(place, truths.cell[~truths.crowd]),
        _unseen(
            lambda i: f"id {truths.ids[i]}", ~truths.crowd, truths.masks, truths.boxes,
            "annotations", "can only be missed",
        ),
    ]  # fmt: skip
    every = np.ones(len(found.cell), dtype=bool)
    of_results = [
        _many_detections(place, found.cell),
        _unseen(
            lambda i: f"[{i}]", every, found.masks, found.boxes,
            "detections", "can only be false",
        ),
    ]  # fmt: skip
    return [
        *(f"{truth_json}: {text}" for text in of_truth if text),
        *(f"{results_json}: {text}" for text in of_results if text),
    ]


def _many_detections(place: CellIndex, cell: IntArray) -> str:
    cells, number = np.unique(cell, return_counts=True)
    over = number > LIMIT
    if not over.any():
        return ""
    images = len(np.unique(cells[over] % len(place.image_ids)))
    lost = int((number[over] - LIMIT).sum())
    return (
        f"{images} images have more than {LIMIT} detections of a category, of which the best "
        f"{LIMIT} count: {lost} detections count nowhere; first {_cell(place, cells, number, over)}"
    )


def _many_truths(place: CellIndex, cell: IntArray) -> str:
    cells, number = np.unique(cell, return_counts=True)
    over = number > LIMIT
    if not over.any():
        return ""
    images = len(place.image_ids)
    kinds = cells // images
    best = np.bincount(kinds, np.minimum(number, LIMIT)) / np.maximum(np.bincount(kinds, number), 1)
    highest = 100 * float(best[np.unique(kinds)].mean())
    return (
        f"{len(np.unique(cells[over] % images))} images have more than {LIMIT} objects of a "
        f"category, of which {LIMIT} can be found: AR {LIMIT} cannot pass {highest:.1f}; first "
        f"{_cell(place, cells, number, over)}"
    )


def _cell(place: CellIndex, cells: IntArray, number: IntArray, over: BoolArray) -> str:
    """Name the first cell that has too many."""
    first = int(np.flatnonzero(over)[0])
    kind, image = divmod(int(cells[first]), len(place.image_ids))
    return f"image {place.image_ids[image]} category {place.category_ids[kind]}: {number[first]}"


def _unseen(
    name: Callable[[int], str], counted: BoolArray, masks: Masks | None, boxes: Boxes | None,
    what: str, outcome: str,
) -> str:  # fmt: skip
    """Say which masks have no pixel, or which boxes no area, inside their image."""
    if masks is None:
        return ""
    empty = counted & (masks.areas == 0)
    if empty.any():
        text = f"{int(empty.sum())} {what} have no pixel inside their image and {outcome}"
        return f"{text}; first {_first(name, empty)}"
    if boxes is None:
        return ""
    flat = counted & _outside(boxes, masks)
    text = f"{int(flat.sum())} {what} have a box without area inside their image, which {outcome}"
    return f"{text}; first {_first(name, flat)}" if flat.any() else ""


def _first(name: Callable[[int], str], chosen: BoolArray) -> str:
    return ", ".join(map(name, np.flatnonzero(chosen)[:EXAMPLES].tolist()))


def _outside(boxes: Boxes, masks: Masks) -> BoolArray:
    """Say of each box whether nothing of it lies inside its image."""
    size = np.stack([masks.pixels // np.maximum(masks.heights, 1), masks.heights], axis=1)
    low = boxes.values[:, :2]
    high = low + boxes.values[:, 2:]
    outside: BoolArray = np.any(np.minimum(high, size) <= np.maximum(low, 0), axis=1)
    return outside
