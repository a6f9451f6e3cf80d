"""Public file formats, written whole or not at all.

Everything between two stages is a file of this module: PNG label maps, COCO-panoptic RGB
PNGs, JSON and JSON lines. Writers go through a temporary file in the same folder, fsync
and rename, so a killed process never leaves half a file under the final name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from segbench.core.errors import DataError
from segbench.core.files import atomic_open
from segbench.core.types import IntArray
from segbench.formats.image_size import check_size, opened, png_size
from segbench.formats.png import GREY, RGB, START, encode_png, png_fault
from segbench.formats.png_decoder import decode

_MAX_DEFLATE = 1040
"""Bytes that one compressed byte can hold at most, a little more than zlib's 1032."""


def read_image(path: Path) -> IntArray:
    """Read a photograph as uint8 RGB [H, W, 3].

    Raises:
        DataError: The file is missing, truncated, too large or not an image.
    """
    data = _measured(path, None)
    fast = _decode_plain(path, data, RGB)
    if fast is not None:
        return fast
    return _read(path, lambda image: np.asarray(image.convert("RGB")))


def read_label_map(path: Path, *, size: tuple[int, ...] | None = None) -> IntArray:
    """Read a PNG of class numbers as uint8 or uint16 [H, W].

    Palette PNGs give their indices. Colour images are refused: they hold colours, not ids.

    Args:
        path: The file.
        size: Height and width that it must have, checked before it is decoded.

    Raises:
        WrongSize: It has another size.
        DataError: The file is missing, broken, too large or has more than one channel.
    """

    def ids(image: Image.Image) -> IntArray:
        _refuse_lossy(path, image)
        if image.mode not in ("L", "P", "I;16", "I"):
            raise DataError(
                f"{path}: expected a one-channel PNG of class ids, found mode {image.mode}",
                fix="write label maps as 8-bit grey or palette PNG",
            )
        array = np.asarray(image)
        return array.astype(np.uint16) if array.dtype.itemsize > 2 else array

    data = _measured(path, size)
    numbers = decode(data, rgb=False)
    if numbers is None:
        numbers = _decode_plain(path, data, GREY)
    return _read(path, ids, size) if numbers is None else numbers


def read_panoptic_ids(path: Path, *, size: tuple[int, ...] | None = None) -> IntArray:
    """Read a COCO-panoptic PNG as int32 segment ids [H, W], id = R + 256 G + 65536 B.

    Args:
        path: The file.
        size: Height and width that it must have, checked before it is decoded.

    Raises:
        WrongSize: It has another size.
        DataError: The file is missing, broken, too large or not 8-bit RGB.
    """

    def ids(image: Image.Image) -> IntArray:
        _refuse_lossy(path, image)
        if image.mode != "RGB":
            raise DataError(
                f"{path}: expected an 8-bit RGB panoptic PNG, found mode {image.mode}",
                fix="encode segment ids as R + 256 G + 65536 B",
            )
        return rgb2id(np.asarray(image))

    data = _measured(path, size)
    decoded = decode(data, rgb=True)
    if decoded is not None:
        return decoded
    colours = _decode_plain(path, data, RGB)
    return _read(path, ids, size) if colours is None else rgb2id(colours)


def _refuse_lossy(path: Path, image: Image.Image) -> None:
    """Refuse a JPEG under a PNG's name: its ids are only near those that were written."""
    if image.format in ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF"):
        raise DataError(
            f"{path}: expected a PNG of ids, found a {image.format}",
            fix="write ids as PNG: a lossy format changes them",
        )


def _bytes(path: Path) -> bytes | None:
    """Return the content of a file; None where it cannot be read, which ``_read`` words."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _measured(path: Path, size: tuple[int, ...] | None) -> bytes:
    """Return the content of a file, empty where it cannot be read; a PNG's size is checked."""
    data = _bytes(path) or b""
    stated = png_size(data)
    if stated is not None:
        check_size(path, stated, size)
    return data


def _decode_plain(path: Path, data: bytes, colour_type: int) -> IntArray | None:
    """Decode an 8-bit PNG of one colour type by libpng; None for every other file.

    libpng checks every checksum up to the last pixel, which Pillow does not, and is faster.

    Raises:
        DataError: The file is such a PNG but broken.
    """
    if data[:8] != START or data[24:29] != bytes([8, colour_type, 0, 0, 0]):
        return None
    _refuse_broken(path, data)
    from imagecodecs import PngError, png_decode  # here, because only pixels need it

    expected = (int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
    if expected[0] * expected[1] > _MAX_DEFLATE * len(data):
        raise DataError(
            f"{path} cannot be read as an image: {len(data)} bytes cannot hold the "
            f"{expected[0]}x{expected[1]} pixels of its header"
        )
    try:
        pixels: IntArray = png_decode(data)
    except (PngError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    shape = expected if colour_type == GREY else (*expected, 3)
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _read(
    path: Path,
    convert: Callable[[Image.Image], IntArray],
    size: tuple[int, ...] | None = None,
) -> IntArray:
    data = _bytes(path)
    if data is not None:
        _refuse_broken(path, data)
    try:
        with opened(path, size) as image:
            return convert(image)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def _refuse_broken(path: Path, data: bytes) -> None:
    """Refuse an empty file and a PNG with a wrong checksum, which a decoder may not notice."""
    fault = png_fault(data) if data.startswith(START) else None
    if not data or fault:
        raise DataError(f"{path} cannot be read as an image: {fault or 'it is empty (0 bytes)'}")


def write_label_map(path: Path, labels: IntArray) -> None:
    """Write class numbers [H, W] as an 8-bit (or 16-bit above 255) one-channel PNG."""
    with atomic_open(path) as stream:
        if labels.max(initial=0) <= 255:
            stream.write(encode_png(labels))
        else:
            Image.fromarray(labels.astype(np.uint16)).save(stream, format="PNG")


def write_panoptic_ids(path: Path, ids: IntArray) -> None:
    """Write segment ids [H, W], each below 2^24, as a COCO-panoptic RGB PNG."""
    with atomic_open(path) as stream:
        stream.write(encode_png(id2rgb(ids)))


def rgb2id(color: IntArray) -> IntArray:
    """Return int32 segment ids [H, W] of a uint8 RGB array [H, W, 3] (COCO panoptic)."""
    padded = np.zeros((*color.shape[:-1], 4), dtype=np.uint8)
    for channel in range(3):  # one at a time: NumPy copies triples four times slower
        padded[..., channel] = color[..., channel]
    ids: IntArray = padded.view("<i4")[..., 0]
    return ids


def id2rgb(ids: IntArray) -> IntArray:
    """Return the uint8 RGB array [H, W, 3] of segment ids [H, W] (COCO panoptic)."""
    octets = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    color = np.empty((*ids.shape, 3), dtype=np.uint8)
    for channel in range(3):
        color[..., channel] = octets[..., channel]
    return color
