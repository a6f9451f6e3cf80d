"""Label maps and segment ids out of plain PNG files, by compiled loops.

Stock decoders undo the filters of a row byte by byte, which takes longer than inflating it. Here
libdeflate inflates and ``pixel_kernels`` leaps over the zeros that runs of one label leave.

Only what is beyond doubt is decoded: 8 bits, not interlaced, known chunks in order, every
checksum right, exactly as many bytes as pixels. For everything else ``decode`` gives None, and
libpng or Pillow decides (and words the message), so nothing passes that they would refuse.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segbench.core.types import IntArray
from segbench.formats import kernel_loading as speed
from segbench.formats.png import GREY, RGB, START

PALETTE = 3
_HARMLESS = frozenset({b"cHRM", b"gAMA", b"pHYs", b"sRGB", b"tEXt", b"tIME", b"tRNS"})
"""Chunks that change no number of a grey, palette or RGB pixel."""
_MAX_SIDE = 1_000_000
"""libpng's limit."""
_MAX_INFLATION = 1040
"""Bytes that a compressed byte can stand for at most, a little more than zlib's 1032."""


@dataclass(frozen=True)
class _Plain:
    """A PNG whose chunks are as expected."""

    width: int
    height: int
    colour_type: int
    compressed: bytes


def decode(data: bytes, *, rgb: bool) -> IntArray | None:
    """Decode a plain PNG if the compiled loops are loaded.

    Args:
        data: The file.
        rgb: Whether it holds segment ids in RGB; else grey or palette numbers.

    Returns:
        Segment ids int32 [H, W], or numbers uint8 [H, W]; None when another decoder must look.
    """
    kernels = speed.kernels()
    plain = _parse(data, (RGB,) if rgb else (GREY, PALETTE)) if kernels else None
    if plain is None or kernels is None:
        return None
    height, width = plain.height, plain.width
    size = height * (1 + width * (3 if rgb else 1))
    words = _inflate(plain.compressed, size)
    if words is None:
        return None
    if rgb:
        ids = np.empty((height, width), dtype=np.uint32)
        right = kernels.unfilter_ids(words.view(np.uint8), words, ids)
        return ids.view(np.int32) if right else None
    numbers = np.empty((height, width), dtype=np.uint8)
    right = kernels.unfilter_bytes(words.view(np.uint8), words, numbers)
    return numbers if right else None


def pixels_of(path: Path) -> int:
    """Return the number of pixels that the header of a PNG states; 0 where there is none."""
    try:
        with path.open("rb") as stream:
            header = stream.read(24)
    except OSError:
        return 0
    if len(header) < 24 or not header.startswith(START):
        return 0
    return int.from_bytes(header[16:20], "big") * int.from_bytes(header[20:24], "big")


def _inflate(compressed: bytes, size: int) -> IntArray | None:
    """Inflate exactly ``size`` bytes into uint64 words whose last byte is not 0."""
    from imagecodecs import DeflateError, deflate_decode  # here, because only pixels need it

    if size > _MAX_INFLATION * len(compressed):
        return None
    words = _scratch(size // 8 + 1)
    room = words.view(np.uint8)
    try:
        inflated = deflate_decode(compressed, out=room[:size].data)
    except (DeflateError, ValueError):
        return None
    room[size:] = 1
    return words if len(inflated) == size else None


class _Scratch(threading.local):
    words: IntArray = np.empty(0, dtype=np.uint64)


_kept = _Scratch()


def _scratch(number: int) -> IntArray:
    """Return uint64 words to write into, the same memory each time: fresh pages cost 0.5 ms."""
    if _kept.words.size < number:
        _kept.words = np.empty(number, dtype=np.uint64)
    return _kept.words[:number]


def _parse(data: bytes, colour_types: tuple[int, ...]) -> _Plain | None:
    chunks = _chunks(data)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return None
    header, kinds = chunks[0][1], [kind for kind, _ in chunks]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour_type, *rest = header[8:]
    if depth != 8 or colour_type not in colour_types or any(rest):
        return None
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        return None
    if not _in_order(kinds[1:], palette=colour_type == PALETTE):
        return None
    parts = [content for kind, content in chunks if kind == b"IDAT"]
    compressed = parts[0] if len(parts) == 1 else b"".join(parts)
    return _Plain(width, height, colour_type, bytes(compressed))


def _chunks(data: bytes) -> list[tuple[bytes, memoryview]] | None:
    """Return kind and content of each chunk; None when a checksum or the end is wrong."""
    if not data.startswith(START):
        return None
    view, position = memoryview(data), len(START)
    chunks = []
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(view[position : position + 4], "big")
        if end > len(data):
            return None
        checksum = zlib.crc32(view[position + 4 : end - 4])
        if checksum != int.from_bytes(view[end - 4 : end], "big"):
            return None
        kind = bytes(view[position + 4 : position + 8])
        chunks.append((kind, view[position + 8 : end - 4]))
        if kind == b"IEND":
            return chunks
        position = end
    return None


def _in_order(kinds: list[bytes], *, palette: bool) -> bool:
    """Say whether the chunks behind the header come as they should: no doubt about any."""
    if b"IDAT" not in kinds:
        return False
    first = kinds.index(b"IDAT")
    number = kinds.count(b"IDAT")
    before, data, behind = kinds[:first], kinds[first : first + number], kinds[first + number :]
    if set(data) != {b"IDAT"} or before.count(b"PLTE") != int(palette):
        return False
    known = _HARMLESS | {b"PLTE"}
    return set(before) <= known and set(behind[:-1]) <= {b"tEXt", b"tIME"}
