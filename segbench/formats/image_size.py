"""Images are measured before they are decoded: a small file can stand for any number of pixels.

Where the size is known (a prediction has that of its truth) the header is held against it; where
it is not, ``SEGBENCH_MAX_PIXELS`` bounds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from segbench.core.errors import ConfigError, DataError
from segbench.formats.png import START

Size = tuple[int, int]
"""Height and width in pixels."""
LIMIT_VARIABLE = "SEGBENCH_MAX_PIXELS"
MAX_PIXELS = 100_000_000
"""Pixels of an image whose size nothing else tells: 0.3 GB as RGB, 0.4 GB as segment ids; more
than four times the largest photograph of Mapillary Vistas."""


class WrongSize(DataError):
    """An image has another size than what belongs to it; ``found`` is height and width."""

    def __init__(self, path: Path, found: Size, expected: Size) -> None:
        super().__init__(
            f"{path}: expected the size {expected[0]}x{expected[1]} (height x width), "
            f"found {found[0]}x{found[1]}"
        )
        self.found = found


def max_pixels() -> int:
    """Return the largest number of pixels that is decoded.

    Raises:
        ConfigError: ``SEGBENCH_MAX_PIXELS`` is no number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 12 and int(text)):
        raise ConfigError(f"{LIMIT_VARIABLE}: expected a whole number above 0, found '{text[:40]}'")
    return int(text)


def check_size(path: Path, found: Size, expected: tuple[int, ...] | None) -> None:
    """Refuse an image by the size that its header states.

    Raises:
        WrongSize: It is not the expected one.
        DataError: None is expected and it has more than ``SEGBENCH_MAX_PIXELS`` pixels.
    """
    if expected is not None:
        if found != expected:
            raise WrongSize(path, found, (expected[0], expected[1]))
    elif found[0] * found[1] > max_pixels():
        raise _too_large(path, found)


def _too_large(path: Path, found: Size) -> DataError:
    return DataError(
        f"{path} cannot be read as an image: its header states {found[0]}x{found[1]} pixels, "
        f"more than the {max_pixels():,} of {LIMIT_VARIABLE}",
        fix=f"cut it into tiles, or set {LIMIT_VARIABLE}={found[0] * found[1]} if you trust the "
        "file and have the memory: 3 bytes a pixel and more",
    )


def png_size(data: bytes) -> Size | None:
    """Return height and width of the header of a PNG; None where the bytes are no PNG."""
    if data[:8] != START or len(data) < 24:
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


@contextmanager
def opened(path: Path, expected: tuple[int, ...] | None) -> Iterator[Image.Image]:
    """Open an image with Pillow, measured before a pixel is decoded.

    Pillow's own limit is set aside: it cannot be named, and only warns up to twice its size.
    """
    kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(path)
    finally:
        Image.MAX_IMAGE_PIXELS = kept
    with image:
        check_size(path, (image.height, image.width), expected)
        yield image
