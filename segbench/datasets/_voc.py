"""What the datasets on Pascal VOC photographs share: lists of image names and label colours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from segbench.core.errors import DataError


def read_image_set(path: Path) -> list[str]:
    """Return the image names of a file in ``ImageSets/``, one a line.

    Raises:
        DataError: The file cannot be read, is empty or names an image twice.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of images: {error}") from error
    stems = [line.strip() for line in lines if line.strip()]
    if not stems:
        raise DataError(f"{path} names no image")
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise DataError(f"{path} names images twice: {', '.join(twice[:5])}")
    return stems


def voc_color(label: int) -> tuple[int, int, int]:
    """Return the RGB colour of a label, as ``VOClabelcolormap`` of the VOC kit defines it.

    The three lowest bits of the label are the highest bits of red, green and blue, the next
    three the second highest, and so on.
    """
    red, green, blue = (
        sum((label >> (3 * place + channel) & 1) << (7 - place) for place in range(3))
        for channel in range(3)
    )
    return red, green, blue
