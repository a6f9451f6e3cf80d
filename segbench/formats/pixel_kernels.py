"""Loops over pixels, compiled by numba: undoing PNG filters and counting pairs of values.

Only ``kernel_loading`` imports this module, where much is to be read. Label maps are nearly all
runs, and a filtered PNG row of a run is zeros, so every loop leaps from one non-zero byte to the
next, eight bytes at a time.

Buffers that are searched are given twice, as bytes and as uint64 words over the same memory;
their last byte must not be zero, so that a search ends. All sizes are checked by the callers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import IntArray

Number = Any
"""An integer of the width that the code makes sure of; for Python all are ints."""
NONE, SUB, UP, AVERAGE, PAETH = range(5)
"""Filters of PNG rows (PNG specification, section 9)."""
_DE_BRUIJN = 0x03F79D71B4CB0A89
_HASH = 11400714819323198485
"""2^64 / golden ratio: multiplying by it spreads keys over the upper bits (Knuth)."""


def _byte_of_bit() -> IntArray:
    """Return int64 [64]: for 1 << n times the de Bruijn number, upper six bits, n // 8."""
    table = np.zeros(64, dtype=np.int64)
    for bit in range(64):
        table[((_DE_BRUIJN << bit) % 2**64) >> 58] = bit // 8
    return table


_BYTE_OF_BIT = _byte_of_bit()


@compiled
def next_nonzero(words: IntArray, place: Number) -> Number:
    """Return the place of the first byte from ``place`` on that is not 0."""
    index = place >> 3
    shift = np.uint64((place & 7) << 3)
    word = (words[index] >> shift) << shift
    while word == 0:
        index += 1
        word = words[index]
    lowest = word & (~word + np.uint64(1))
    return (index << 3) + _BYTE_OF_BIT[np.int64((lowest * np.uint64(_DE_BRUIJN)) >> np.uint64(58))]


@compiled
def _paeth(left: Number, up: Number, corner: Number) -> Number:
    """Return the neighbour nearest to left + up - corner; ties in the order left, up, corner."""
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


@compiled
def _paeth_id(left: Number, up: Number, corner: Number) -> Number:
    """Return the Paeth prediction of three uint32 pixels, channel by channel."""
    pixel = np.uint32(0)
    for bits in range(0, 24, 8):
        shift = np.uint32(bits)
        byte = _paeth(
            np.int64((left >> shift) & np.uint32(255)),
            np.int64((up >> shift) & np.uint32(255)),
            np.int64((corner >> shift) & np.uint32(255)),
        )
        pixel |= np.uint32(byte) << shift
    return pixel


@compiled
def _add_id(first: Number, second: Number) -> Number:
    """Add two uint32 pixels channel by channel, modulo 256."""
    low = (first & np.uint32(0x7F7F7F)) + (second & np.uint32(0x7F7F7F))
    return low ^ ((first ^ second) & np.uint32(0x808080))


@compiled
def _id_at(raw: IntArray, place: Number) -> Number:
    """Return the RGB pixel at a place as uint32, R + 256 G + 65536 B."""
    green, blue = np.uint32(raw[place + 1]), np.uint32(raw[place + 2])
    return np.uint32(raw[place]) | green << np.uint32(8) | blue << np.uint32(16)


@compiled
def _copy(row: IntArray, source: IntArray) -> None:
    for x in range(row.size):  # ten times as fast as a slice assigned by numba
        row[x] = source[x]


@compiled
def _fill(row: IntArray, value: Number) -> None:
    for x in range(row.size):
        row[x] = value


@compiled
def _paeth_run_ids(row: IntArray, left: Number, corner: Number) -> tuple[Number, Number]:
    """Undo Paeth pixels whose filtered bytes are 0; ``row`` holds the pixels above.

    Where left equals corner the prediction is the pixel above, which then holds for the rest.

    Returns:
        The last pixel and the one above it.
    """
    x = 0
    while x < row.size and left != corner:
        up = row[x]
        if up != corner:
            left = _paeth_id(left, up, corner)
        corner = up
        row[x] = left
        x += 1
    if x < row.size:
        left = corner = row[row.size - 1]
    return left, corner


@compiled
def _sparse_row_ids(
    raw: IntArray, words: IntArray, begin: Number, row: IntArray, kind: Number
) -> None:
    """Undo one Sub, Up or Paeth row of RGB pixels, leaping over zeros.

    ``begin``: place of the row's first byte in ``raw``. ``row`` holds the pixels above already
    (not needed by Sub).
    """
    left, corner = np.uint32(0), np.uint32(0)
    x, width = 0, row.size
    while x < width:
        end = min((next_nonzero(words, begin + 3 * x) - begin) // 3, width)
        if kind == SUB:
            _fill(row[x:end], left)
        elif kind == PAETH:
            left, corner = _paeth_run_ids(row[x:end], left, corner)
        if end == width:
            break
        up = row[end]
        if kind == PAETH:
            left = _paeth_id(left, up, corner)
            corner = up
        elif kind == UP:
            left = up
        left = _add_id(left, _id_at(raw, begin + 3 * end))
        row[end] = left
        x = end + 1


@compiled
def _average_row_ids(raw: IntArray, begin: Number, row: IntArray) -> None:
    left = np.uint32(0)
    for x in range(row.size):
        up = row[x]
        mean = (left & up) + (((left ^ up) & np.uint32(0xFEFEFE)) >> np.uint32(1))
        left = _add_id(mean, _id_at(raw, begin + 3 * x))
        row[x] = left


@compiled
def unfilter_ids(raw: IntArray, words: IntArray, out: IntArray) -> bool:
    """Turn the inflated bytes of an 8-bit RGB PNG into ids R + 256 G + 65536 B.

    Args:
        raw: uint8 [height * (1 + 3 width) and more], a filter byte before each row.
        words: The same memory as uint64; the last byte is not 0.
        out: uint32 [height, width] to fill.

    Returns:
        False where a row has a filter that does not exist.
    """
    height, width = out.shape
    above = np.zeros(width, dtype=np.uint32)
    for y in range(height):
        begin, row = y * (3 * width + 1) + 1, out[y]
        kind = raw[begin - 1]
        if kind > PAETH:
            return False
        if kind == NONE:
            for x in range(width):
                row[x] = _id_at(raw, begin + 3 * x)
        else:
            if kind != SUB:
                _copy(row, above)
            if kind == AVERAGE:
                _average_row_ids(raw, begin, row)
            else:
                _sparse_row_ids(raw, words, begin, row, kind)
        above = row
    return True


@compiled
def _paeth_run(row: IntArray, left: Number, corner: Number) -> tuple[Number, Number]:
    """Do for single bytes what ``_paeth_run_ids`` does for pixels."""
    x = 0
    while x < row.size and left != corner:
        up = np.int64(row[x])
        if up != corner:
            left = _paeth(left, up, corner)
        corner = up
        row[x] = left
        x += 1
    if x < row.size:
        left = corner = np.int64(row[row.size - 1])
    return left, corner


@compiled
def _sparse_row(raw: IntArray, words: IntArray, begin: Number, row: IntArray, kind: Number) -> None:
    """Undo one Sub or Paeth row of single bytes, leaping over zeros."""
    left, corner = np.int64(0), np.int64(0)
    x, width = 0, row.size
    while x < width:
        end = min(next_nonzero(words, begin + x) - begin, width)
        if kind == SUB:
            _fill(row[x:end], left)
        else:
            left, corner = _paeth_run(row[x:end], left, corner)
        if end == width:
            break
        if kind == PAETH:
            up = np.int64(row[end])
            left = _paeth(left, up, corner)
            corner = up
        left = (left + np.int64(raw[begin + end])) & 255
        row[end] = left
        x = end + 1


@compiled
def _average_row(filtered: IntArray, row: IntArray) -> None:
    left = np.int64(0)
    for x in range(row.size):
        left = (np.int64(filtered[x]) + ((left + np.int64(row[x])) >> 1)) & 255
        row[x] = left


@compiled
def unfilter_bytes(raw: IntArray, words: IntArray, out: IntArray) -> bool:
    """Turn the inflated bytes of an 8-bit grey or palette PNG into its pixels.

    Args:
        raw: uint8 [height * (1 + width) and more], a filter byte before each row.
        words: The same memory as uint64; the last byte is not 0.
        out: uint8 [height, width] to fill.

    Returns:
        False where a row has a filter that does not exist.
    """
    height, width = out.shape
    above = np.zeros(width, dtype=np.uint8)
    for y in range(height):
        begin, row = y * (width + 1) + 1, out[y]
        kind, filtered = raw[begin - 1], raw[begin : begin + width]
        if kind > PAETH:
            return False
        if kind == NONE:
            _copy(row, filtered)
        elif kind == UP:
            for x in range(width):
                row[x] = above[x] + filtered[x]
        else:
            if kind != SUB:
                _copy(row, above)
            if kind == AVERAGE:
                _average_row(filtered, row)
            else:
                _sparse_row(raw, words, begin, row, kind)
        above = row
    return True


@compiled
def count_pairs(
    truth: IntArray,
    prediction: IntArray,
    changed: IntArray,
    words: IntArray,
    keys: IntArray,
    pixels: IntArray,
) -> bool:
    """Count the pixels of each (truth id, predicted id) in a hash table of open addresses.

    Args:
        truth: int32 [n], at least one pixel.
        prediction: int32 [n].
        changed: uint8 [n and more] to write into; the last byte is not 0 and lies behind n.
        words: The same memory as uint64.
        keys: uint64 [a power of two] to fill: truth id * 2^24 + predicted id.
        pixels: int64 of the same size, zeros; stays 0 where no key is.

    Returns:
        False where the table is too small.
    """
    number = truth.size
    changed[0] = 1
    for i in range(1, number):
        changed[i] = (truth[i] != truth[i - 1]) | (prediction[i] != prediction[i - 1])
    mask = keys.size - 1
    used = i = 0
    while i < number:
        end = min(next_nonzero(words, i + 1), number)
        key = np.uint64(truth[i]) * np.uint64(1 << 24) + np.uint64(prediction[i])
        slot = np.int64((key * np.uint64(_HASH)) >> np.uint64(40)) & mask
        while pixels[slot] and keys[slot] != key:
            slot = (slot + 1) & mask
        if pixels[slot] == 0:
            used += 1
            if 2 * used > keys.size:
                return False
            keys[slot] = key
        pixels[slot] += end - i
        i = end
    return True


@compiled
def count_bytes(
    truth: IntArray, prediction: IntArray, first: IntArray, second: IntArray, table: IntArray
) -> None:
    """Count the pixels of each pair of bytes.

    Args:
        truth: uint64 [n // 8], eight pixels a word.
        prediction: The same of the prediction.
        first: uint8 [n], the ground truth's pixels.
        second: uint8 [n], the prediction's.
        table: int64 [65536], zeros; place truth * 256 + prediction.
    """
    ones, low = np.uint64(0x0101010101010101), np.uint64(255)
    for i in range(truth.size):
        one, two = truth[i] & low, prediction[i] & low
        if truth[i] == one * ones and prediction[i] == two * ones:
            table[np.int64(one << np.uint64(8) | two)] += 8
        else:
            for k in range(8 * i, 8 * i + 8):
                table[np.int64(first[k]) << 8 | np.int64(second[k])] += 1
    for k in range(8 * truth.size, first.size):
        table[np.int64(first[k]) << 8 | np.int64(second[k])] += 1
