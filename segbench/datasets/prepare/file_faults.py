"""What is wrong with one file of a dataset, by a name that stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.core.errors import DataError
from segbench.datasets.source import IMAGE_SUFFIXES
from segbench.formats.label_maps import read_image
from segbench.formats.png import GREY, RGB, START, png_fault

_PALETTE = 3
_COLOURS = {
    GREY: "grey",
    RGB: "RGB",
    _PALETTE: "palette",
    4: "grey with alpha",
    6: "RGB with alpha",
}

Fault = tuple[str, Path, str]
"""Kind, file, what is wrong."""


def file_fault(path: Path) -> Fault | None:
    """Read a file whole; return why it cannot be used, or None.

    Kinds: ``missing-file``, ``empty-file``, ``truncated-file``, ``broken-checksum``,
    ``unreadable-file``. Files that are no images must be there and not be empty.
    """
    image = path.suffix.lower() in IMAGE_SUFFIXES
    try:
        with path.open("rb") as stream:
            data = stream.read() if image else stream.read(1)
    except FileNotFoundError:
        return "missing-file", path, "does not exist"
    except OSError as error:
        return "unreadable-file", path, f"cannot be read: {error.strerror or error}"
    if not data:
        return "empty-file", path, "is empty (0 bytes)"
    if not image:
        return None
    fault = png_fault(data) if data.startswith(START) else None
    if fault:
        kind = "truncated-file" if "truncated" in fault else "broken-checksum"
        return kind, path, fault
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]:
        return "truncated-file", path, f"is truncated after {len(data)} bytes: a JPEG without end"
    return _decoding_fault(path, data)


def _decoding_fault(path: Path, data: bytes) -> Fault | None:
    if data.startswith(START) and data[24] == 16:
        return None  # the chunks are whole; what the depth means is the dataset's business
    try:
        read_image(path)
    except DataError as error:
        what = error.what.removeprefix(f"{path} ")
        return ("truncated-file" if "truncated" in what else "unreadable-file"), path, what
    return None


def faults_of(files: Sequence[Path]) -> list[Fault]:
    """Return what is wrong with the files of one image.

    One that is missing beside others that are there is ``unpaired-file``.
    """
    faults = [fault for fault in map(file_fault, files) if fault is not None]
    present = [path.name for path in files if path.exists()]
    return [
        ("unpaired-file", path, f"does not exist, but {', '.join(present)} does")
        if kind == "missing-file" and present
        else (kind, path, what)
        for kind, path, what in faults
    ]


def encoding_of(path: Path) -> str:
    """Return how a PNG holds its pixels, as ``16-bit grey``; empty for other files."""
    try:
        with path.open("rb") as stream:
            head = stream.read(26)
    except OSError:
        return ""
    if len(head) < 26 or not head.startswith(START):
        return ""
    return f"{head[24]}-bit {_COLOURS.get(head[25], 'unknown')}"


def size_of(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image from its header, or None."""
    from segbench.formats.image_size import opened

    try:
        with opened(path, None) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, DataError):
        return None
