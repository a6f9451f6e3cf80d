"""Masks and boxes of many objects, side by side in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.types import FloatArray, IntArray

_QUOTE = ord('"')


@dataclass(frozen=True, eq=False)
class Boxes:
    """``values`` float64 [n, 4]: x, y, width, height."""

    values: FloatArray

    def take(self, order: IntArray) -> Boxes:
        return Boxes(self.values[order])

    @property
    def areas(self) -> FloatArray:
        found: FloatArray = self.values[:, 2] * self.values[:, 3]
        return found


class Masks(NamedTuple):
    """Run lengths as text (see ``_rle_kernels``) and what was measured on them.

    ``text``: all texts in one buffer. ``begins``, ``stops``, ``pixels`` int64 [n]: where each
    one lies, and pixels of its image. ``areas`` float64 [n] in pixels. ``boxes`` float64 [n, 4].
    ``heights`` int64 [n] of the images.
    """

    text: Any
    begins: IntArray
    stops: IntArray
    pixels: IntArray
    areas: FloatArray
    boxes: FloatArray
    heights: IntArray

    def text_of(self, index: int) -> bytes:
        """Return the text of one mask."""
        return bytes(self.text[self.begins[index] : self.stops[index]])

    def take(self, order: IntArray) -> Masks:
        columns = {name: getattr(self, name)[order] for name in self._fields[1:]}
        return Masks(self.text, **columns)


class BrokenMaskError(DataError):
    """A mask's runs cannot be decoded or do not fill its image."""

    def __init__(self) -> None:
        super().__init__("run lengths of a mask cannot be decoded or do not fill its image")


def read_masks(texts: Sequence[Any], heights: IntArray, widths: IntArray) -> Masks:
    """Check and measure masks.

    Args:
        texts: Bytes of a JSON string each, or of a JSON list of run lengths.
        heights: int64 [n], of their images.
        widths: int64 [n].

    Raises:
        BrokenMaskError: One of them is no mask of its image.
    """
    from segbench.evaluation.instance import rle_kernels as _rle_kernels

    joined = _join(texts)
    if (joined[0][joined[1]] != _QUOTE).any():
        sizes = zip(texts, heights.tolist(), widths.tolist(), strict=True)
        joined = _join([_compressed(bytes(text), *size) for text, *size in sizes])
        if (joined[0][joined[1]] != _QUOTE).any():
            raise BrokenMaskError
    areas, boxes = np.zeros(len(texts)), np.zeros((len(texts), 4))
    if _rle_kernels.measure(*joined, heights, widths, areas, boxes) >= 0:
        raise BrokenMaskError
    return Masks(*joined, heights * widths, areas, boxes, heights)


def _join(texts: Sequence[Any]) -> tuple[Any, IntArray, IntArray]:
    """Return one buffer and where each text begins and stops."""
    stops = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    begins = np.concatenate([[0], stops[:-1]]).astype(np.int64)
    return np.frombuffer(b"".join(texts) or b" ", dtype=np.uint8), begins[: len(texts)], stops


def _compressed(text: bytes, height: int, width: int) -> bytes:
    """Return a JSON string of what may be a JSON list of run lengths."""
    from msgspec import DecodeError, json

    if not text.startswith(b"["):
        return text
    try:
        runs = json.decode(text, type=list[int])
    except DecodeError as error:
        raise BrokenMaskError from error
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise BrokenMaskError
    return mask_text({"size": [height, width], "counts": runs}, height, width)


def mask_text(segmentation: Any, height: int, width: int) -> bytes:
    """Return run lengths or polygons as they come in a file, as the text of a JSON string."""
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    counts = segmentation["counts"]
    raw = counts.encode() if isinstance(counts, str) else counts
    return b'"' + raw.replace(b"\\", b"\\\\") + b'"'


def read_boxes(boxes: Iterable[Sequence[float]]) -> Boxes:
    """Return boxes of four numbers each."""
    values = [number for box in boxes for number in box]
    return Boxes(np.array(values, dtype=np.float64).reshape(-1, 4))
