"""Label maps, panoptic maps, instances and errors as transparent colour layers.

The report shows the photograph once and lays these images over it, so a slider can fade
them; nothing is baked into the photograph. Colours in, colours out: every function takes
train ids and returns uint8 RGBA [H, W, 4]. Where a layer has nothing to say it is fully
transparent. Correct and wrong are blue and orange, which colour-blind readers can tell
apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core.files import atomic_open
from segbench.core.types import IGNORE_INDEX, VOID, BoolArray, CategoryTable, FloatArray, IntArray

Rgba = NDArray[np.uint8]
Color = tuple[int, int, int]

CORRECT: Color = (0, 114, 178)
WRONG: Color = (230, 97, 0)
IGNORED: Color = (128, 128, 128)
OUTLINE: Color = (16, 16, 16)
SHADES = (0.0, 0.4, -0.3, 0.65, -0.5, 0.2, -0.15)
"""How far the first, second ... instance of a class is moved to white (or to black, below 0)."""
PIXELS_PER_OUTLINE = 400
"""One pixel of outline for each so many pixels of the longer image side."""
_SMALL_IDS = 1 << 16


def palette(table: CategoryTable) -> NDArray[np.uint8]:
    """Return uint8 [256, 4]: the RGBA of each train id; numbers of no class are transparent."""
    colors = np.zeros((256, 4), dtype=np.uint8)
    for train_id, category in enumerate(table.categories[:IGNORE_INDEX]):
        colors[train_id] = (*category.color, 255)
    return colors


def label_rgba(labels: IntArray, *, table: CategoryTable) -> Rgba:
    """Return the layer of a label map of train ids [H, W]; ignored pixels are transparent."""
    return _look_up(palette(table), np.minimum(labels, IGNORE_INDEX))


def panoptic_rgba(ids: IntArray, segments: Mapping[int, int], *, table: CategoryTable) -> Rgba:
    """Return the layer of a panoptic map: a shade per instance, an outline around each.

    Args:
        ids: Segment ids [H, W]; 0 and ids without an entry in ``segments`` are transparent.
        segments: Segment id -> train id; the order decides the shades.
        table: The classes of the dataset.
    """
    known, compact = _compact(ids)
    colors = np.zeros((len(known), 4), dtype=np.uint8)
    is_thing = np.zeros(len(known), dtype=bool)
    shades = _Shades(table)
    position = {int(segment_id): index for index, segment_id in enumerate(known)}
    for segment_id, train_id in segments.items():
        color = shades.next(train_id)
        if segment_id in position and segment_id != VOID:
            colors[position[segment_id]] = (*color, 255)
            is_thing[position[segment_id]] = table.categories[train_id].isthing
    layer = _look_up(colors, compact)
    layer[_outlines(compact, is_thing)] = (*OUTLINE, 255)
    return layer


def instances_rgba(
    masks: BoolArray,
    labels: Sequence[int] | IntArray,
    *,
    table: CategoryTable,
    scores: FloatArray | None = None,
) -> Rgba:
    """Return the layer of instance masks [N, H, W], outlined; higher scores lie on top.

    Args:
        masks: Bool masks, which may overlap.
        labels: Train id of each.
        table: The classes of the dataset.
        scores: Confidence of each; without it the first mask lies on top.
    """
    order = np.argsort(scores, kind="stable") if scores is not None else range(len(masks))[::-1]
    ids = np.zeros(masks.shape[1:], dtype=np.int32)
    for index in order:
        np.copyto(ids, index + 1, where=masks[index])
    segments = {number: int(label) for number, label in enumerate(labels, start=1)}
    return panoptic_rgba(ids, segments, table=table)


def error_rgba(truth: IntArray, prediction: IntArray) -> Rgba:
    """Return where a label map is right, wrong, or not scored.

    Args:
        truth: Train ids [H, W]; 255 is not scored and shown grey.
        prediction: Train ids [H, W] of the same size.
    """
    state = (truth != prediction).astype(np.uint8)
    state[truth == IGNORE_INDEX] = 2
    colors = [(*CORRECT, 110), (*WRONG, 255), (*IGNORED, 110)]
    return _look_up(np.array(colors, dtype=np.uint8), state)


def save_webp(path: Path, rgba: Rgba) -> None:
    """Write a layer as lossless WebP: the exact colours, transparency included."""
    with atomic_open(path) as stream:
        Image.fromarray(rgba).save(stream, format="WEBP", lossless=True, quality=0, method=0)


def save_palette_png(path: Path, labels: IntArray, *, table: CategoryTable) -> None:
    """Write a label map as palette PNG: its pixels still are the train ids, 255 transparent."""
    colors = palette(table)
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(colors[:, :3].tobytes())
    with atomic_open(path) as stream:
        image.save(stream, format="PNG", transparency=colors[:, 3].tobytes(), compress_level=3)


class _Shades:
    """Hands out the colours of a class: stuff always its own, things one shade after another."""

    def __init__(self, table: CategoryTable) -> None:
        self._categories = table.categories
        self._used: dict[int, int] = {}

    def next(self, train_id: int) -> Color:
        category = self._categories[train_id]
        number = self._used.get(train_id, 0)
        self._used[train_id] = number + 1
        return (
            _shade(category.color, SHADES[number % len(SHADES)])
            if category.isthing
            else (category.color)
        )


def _shade(color: Color, amount: float) -> Color:
    end = 255 if amount > 0 else 0
    red, green, blue = (round(c + (end - c) * abs(amount)) for c in color)
    return red, green, blue


def _look_up(colors: NDArray[np.uint8], index: IntArray) -> Rgba:
    """Return ``colors[index]`` for RGBA colours; four times faster as one 32-bit number each."""
    words = np.ascontiguousarray(colors).view(np.uint32).ravel()
    return words[index].view(np.uint8).reshape(*index.shape, 4)


def _compact(ids: IntArray) -> tuple[IntArray, IntArray]:
    """Return the ids that can occur and the map [H, W] of positions among them."""
    highest = int(ids.max(initial=0))
    if highest < _SMALL_IDS:
        return np.arange(highest + 1), ids
    known, compact = np.unique(ids, return_inverse=True)
    return known, compact.reshape(ids.shape)


def _outlines(compact: IntArray, is_thing: BoolArray) -> BoolArray:
    """Return the pixels of things that lie at the edge of their segment."""
    edge = np.zeros(compact.shape, dtype=bool)
    reach = max(1, round(max(compact.shape) / PIXELS_PER_OUTLINE))
    for step in range(1, reach + 1):
        across = compact[:, step:] != compact[:, :-step]
        down = compact[step:] != compact[:-step]
        edge[:, step:] |= across
        edge[:, :-step] |= across
        edge[step:] |= down
        edge[:-step] |= down
    return edge & is_thing[compact]
