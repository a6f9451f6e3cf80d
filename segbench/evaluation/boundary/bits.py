"""Rows of pixels as bits: 64 pixels a word, so that windows are tested 64 pixels at a time.

L lines of W pixels are uint64 [L, K] with pixel x at bit x % 64 of word x // 64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core.types import BoolArray

Bits = NDArray[np.uint64]
WORD = 64


def pack(lines: BoolArray, *, before: int = 0, width: int | None = None) -> Bits:
    """Pack bool [L, W] with empty pixels before each line; ``width`` pixels have room after."""
    room = before + lines.shape[1] if width is None else width
    padded = np.zeros((lines.shape[0], words(room) * WORD), dtype=bool)
    padded[:, before : before + lines.shape[1]] = lines
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def unpack(bits: Bits, *, begin: int, width: int) -> BoolArray:
    """Return pixels ``begin`` to ``begin + width`` of each line as bool [L, width]."""
    as_bytes = np.ascontiguousarray(bits.astype("<u8", copy=False)).view(np.uint8)
    lines = np.unpackbits(as_bytes, axis=1, bitorder="little", count=begin + width)
    return lines[:, begin:].view(bool)


def words(width: int) -> int:
    """Return how many words a line of that many pixels takes."""
    return -(-width // WORD)


def spread_up(bits: Bits, length: int) -> Bits:
    """Return lines with each set pixel repeated at the ``length`` - 1 places above it.

    Lines need that much empty room at their end: what passes it goes on in the next line.
    """
    spread = bits.reshape(-1)
    reached = 1
    while reached < length:
        step = min(reached, length - reached)
        spread = spread | _moved_up(spread, step)
        reached += step
    return spread.reshape(bits.shape)


def _moved_up(bits: Bits, by: int) -> Bits:
    whole, part = divmod(by, WORD)
    out = np.zeros_like(bits)
    kept = bits[: max(len(bits) - whole, 0)]
    np.left_shift(kept, np.uint64(part), out=out[whole:])
    if part:
        out[whole + 1 :] |= kept[:-1] >> np.uint64(WORD - part)
    return out


def any_of_lines(bits: NDArray[Any], number: int) -> NDArray[Any]:
    """Return the union of each line with the ``number`` - 1 after it, [L - number + 1, K]."""
    reached = 1
    while reached < number:
        step = min(reached, number - reached)
        bits = bits[: len(bits) - step] | bits[step:]
        reached += step
    return bits
