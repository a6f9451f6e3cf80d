"""PNG files with every filter, bit depth and interlacing, written from the specification."""

import struct
import zlib
from itertools import pairwise

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
PASSES += [(1, 0, 2, 1)]
"""First row, first column, row step, column step of Adam7."""


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def predicted(kind, left, up, corner):
    if kind == 4:
        guess = left + up - corner
        order = [(abs(guess - value), i, value) for i, value in enumerate((left, up, corner))]
        return min(order)[2]
    return (0, left, up, (left + up) // 2)[kind]


def filtered(row, above, kind, step):
    """Filter one row of bytes, byte by byte as the specification words it."""
    result = bytearray([kind])
    for x, byte in enumerate(row):
        left = row[x - step] if x >= step else 0
        corner = above[x - step] if x >= step else 0
        result.append((byte - predicted(kind, left, above[x], corner)) % 256)
    return bytes(result)


def packed(pixels, depth):
    """Return the rows [h, w, channels] as bytes."""
    rows = pixels.reshape(len(pixels), -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in rows]
    bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def filtered_rows(pixels, depth, kinds):
    step = max(1, pixels.shape[2] * depth // 8)
    rows = packed(pixels, depth)
    above, result = bytes(len(rows[0]) if rows else 0), b""
    for y, row in enumerate(rows):
        result += filtered(row, above, kinds[y % len(kinds)], step)
        above = row
    return result


def png(pixels, colour_type, *, depth=8, kinds=(0,), interlaced=False, extra=(), parts=1):
    """Return a file of the pixels [H, W] or [H, W, channels].

    ``kinds``: filters of the rows, in turns. ``extra``: chunks before the data. ``parts``: into
    how many chunks the data are split.
    """
    height, width = pixels.shape[:2]
    pixels = pixels.reshape(height, width, CHANNELS[colour_type])
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    layers = [pixels]
    if interlaced:
        layers = [pixels[y::down, x::across] for y, x, down, across in PASSES]
    raw = b"".join(filtered_rows(layer, depth, kinds) for layer in layers if layer.size)
    data = zlib.compress(raw)
    cuts = [len(data) * i // parts for i in range(parts + 1)]
    chunks = [chunk(b"IHDR", header)]
    if colour_type == PALETTE:
        chunks.append(chunk(b"PLTE", bytes(range(256)) * 3))
    chunks += [chunk(kind, content) for kind, content in extra]
    chunks += [chunk(b"IDAT", data[a:b]) for a, b in pairwise(cuts)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IEND", b"")])
