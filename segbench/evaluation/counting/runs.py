"""Runs of equal values: label maps are nearly all runs, so counting runs beats counting pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core.types import IntArray
from segbench.formats import kernel_loading as speed

ID_BITS = 24
"""Of a segment id."""
_SLOTS = 4096
"""Of the first table for pairs; an image has a few hundred pairs."""


def run_starts(*maps: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Return where, read row by row, a run of equal values starts in all maps, and its length."""
    size = maps[0].size
    if size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    changes = np.zeros(size, dtype=bool)
    changes[0] = True
    for flat in (values.reshape(-1) for values in maps):
        changes[1:] |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(starts, append=size)


def run_lengths(values: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the value and the int64 length of each run of equal values, read row by row."""
    starts, lengths = run_starts(values)
    return values.reshape(-1)[starts], lengths


def sum_by_value(values: NDArray[Any], amounts: IntArray) -> tuple[NDArray[Any], IntArray]:
    """Return the distinct values in ascending order and the int64 sum of the amounts of each."""
    if not len(values):
        return values, np.zeros(0, dtype=np.int64)
    order = np.argsort(values)
    ordered = values[order]
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[firsts], np.add.reduceat(amounts[order], firsts)


def value_counts(values: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the distinct values in ascending order and how often each occurs (int64)."""
    return sum_by_value(*run_lengths(values))


def count_id_pairs(first: IntArray, second: IntArray) -> tuple[NDArray[Any], IntArray]:
    """Return the pairs of segment ids at the same pixel, ascending, and the pixels of each.

    A pair is the uint64 number first id * 2^24 + second id.
    """
    maps = [np.ascontiguousarray(ids).reshape(-1) for ids in (first, second)]
    kernels = speed.kernels()
    if kernels and maps[0].size and all(ids.dtype == np.int32 for ids in maps):
        return _compiled_id_pairs(kernels, *maps)
    starts, lengths = run_starts(*maps)
    values = [ids[starts].astype(np.uint64) for ids in maps]
    return sum_by_value((values[0] << np.uint64(ID_BITS)) + values[1], lengths)


def id_areas(ids: IntArray) -> dict[int, int]:
    """Return the pixels of each segment id (0 to 2^24 - 1) of a map, ascending."""
    if speed.kernels():
        pairs, pixels = count_id_pairs(ids, ids)
        values = pairs & np.uint64((1 << ID_BITS) - 1)
    else:
        values, pixels = value_counts(ids)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def _compiled_id_pairs(
    kernels: Any, first: IntArray, second: IntArray
) -> tuple[NDArray[Any], IntArray]:
    words = np.empty(first.size // 8 + 1, dtype=np.uint64)
    changed = words.view(np.uint8)
    changed[first.size :] = 1
    found, slots = False, _SLOTS
    while not found:
        keys, pixels = np.empty(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int64)
        found = kernels.count_pairs(first, second, changed, words, keys, pixels)
        slots *= 8
    used = np.flatnonzero(pixels)
    used = used[np.argsort(keys[used])]
    return keys[used], pixels[used]


def count_byte_pairs(first: IntArray, second: IntArray) -> IntArray:
    """Return the pixels of each pair of bytes at the same pixel, int64 [256, 256]."""
    maps = [np.ascontiguousarray(values).reshape(-1) for values in (first, second)]
    kernels = speed.kernels()
    if kernels:
        table = np.zeros(256 * 256, dtype=np.int64)
        kernels.count_bytes(*(_words(values) for values in maps), *maps, table)
        return table.reshape(256, 256)
    values, lengths = run_lengths(maps[0].astype(np.uint16) << 8 | maps[1])
    # Weights are float64: exact, because no image has 2^53 pixels.
    sums = np.bincount(values, weights=lengths, minlength=256 * 256)
    return sums.astype(np.int64).reshape(256, 256)


def _words(values: IntArray) -> IntArray:
    """Return eight bytes a uint64, without the rest; the loops expect aligned memory."""
    words = values[: values.size // 8 * 8].view(np.uint64)
    return words if words.flags.aligned else words.copy()


def join_rows(tables: Sequence[IntArray], images: Sequence[int]) -> IntArray:
    """Join tables whose first column is the image of a row, an index into the part's images.

    Args:
        tables: int64 [n, columns] of each part.
        images: Number of images of each part.
    """
    joined: IntArray = np.concatenate(tables)
    firsts = np.cumsum([0, *images])[:-1]
    joined[:, 0] += np.repeat(firsts, [len(table) for table in tables])
    return joined
