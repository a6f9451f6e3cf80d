"""``counts.npz``: the counts of every image of a task, enough for every score of a subset.

A semantic or panoptic file holds one part, called after the task, and that of Cityscapes
``semantic_labels`` besides; an instance file holds ``segm`` and ``bbox``, or
under Cityscapes' rule ``segm_overlaps``. The same counts always give the same bytes.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segbench.core.errors import DataError
from segbench.core.files import atomic_open
from segbench.core.types import ImageId
from segbench.evaluation.kinds import KINDS, Counts, kind_of, main_part

SCHEMA = 1
SMALL_COUNTS = 2**26
"""Bytes that counts may inflate to however small their file is."""
MAX_INFLATION = 200
"""Bytes of larger counts for each byte of their file."""


def save_counts(path: Path, parts: Mapping[str, Counts]) -> None:
    """Write counts atomically.

    Args:
        path: File to write, usually ``counts.npz``.
        parts: Counts by part: ``semantic``, ``panoptic``, or ``segm`` and ``bbox``.

    Raises:
        DataError: Two images have one id, or the file cannot be written.
    """
    arrays: dict[str, Any] = {"schema": np.int64(SCHEMA)}
    for part, counts in sorted(parts.items()):
        if len(set(counts.image_ids)) != len(counts.image_ids):
            raise DataError(f"{path}: an image id occurs twice in the {part} counts")
        arrays |= {f"{part}/{key}": value for key, value in counts.to_arrays().items()}
    with atomic_open(path) as stream:
        np.savez_compressed(stream, **arrays)


_BROKEN = (
    AttributeError, KeyError, NotImplementedError, TypeError, ValueError, OverflowError,
    RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What NumPy and zipfile raise for archives that are damaged."""


def load_counts(path: Path) -> dict[str, Counts]:
    """Read what ``save_counts`` wrote, by part; ``DataError`` when it is not such a file."""
    try:
        with Path(path).open("rb") as stream:
            _measure(stream)
            with np.load(stream) as archive:
                arrays = {key: archive[key] for key in archive.files}
        if int(arrays["schema"]) != SCHEMA:
            raise DataError(f"{path}: expected schema {SCHEMA}, found {arrays['schema']}")
        names = sorted({key.split("/")[0] for key in arrays if "/" in key})
        if not names:
            raise ValueError("it holds the counts of no task")
        return {part: KINDS[part].counts.from_arrays(_strip(arrays, part)) for part in names}
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, EOFError, *_BROKEN) as error:
        raise DataError(
            f"{path} is no counts file: {error}", fix="evaluate the predictions again"
        ) from error


def _measure(stream: BinaryIO) -> None:
    """Refuse an archive whose arrays are larger than what it holds, before any is made.

    Raises:
        ValueError: Saying which array, or that it inflates too far.
    """
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        compressed = stream.seek(0, 2)
        if total > max(SMALL_COUNTS, MAX_INFLATION * compressed):
            raise ValueError(f"{compressed} bytes inflate to {total}, which no counts do")
        for entry in entries:
            with archive.open(entry) as member:
                if np.lib.format.read_magic(member) == (1, 0):
                    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                else:
                    shape, _, dtype = np.lib.format.read_array_header_2_0(member)
                if math.prod(shape) * dtype.itemsize + member.tell() != entry.file_size:
                    raise ValueError(f"the array {entry.filename} is not as long as it says")
    stream.seek(0)


def _strip(arrays: Mapping[str, Any], part: str) -> dict[str, Any]:
    start = f"{part}/"
    return {
        key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)
    }


def subset(parts: Mapping[str, Counts], image_ids: Iterable[ImageId]) -> dict[str, Counts]:
    """Return the counts of some images.

    Raises:
        DataError: An image has no counts here.
    """
    wanted = set(image_ids)
    for part, counts in parts.items():
        missing = sorted(wanted - set(counts.image_ids), key=str)
        if missing:
            raise DataError(f"{len(missing)} images have no {part} counts, first ids {missing[:3]}")
    return {part: counts.subset(wanted) for part, counts in parts.items()}


def image_scores(parts: Mapping[str, Counts]) -> dict[ImageId, float | None]:
    """Return one number an image, to show the worst first.

    Semantic: mIoU over the classes the image shows. Panoptic: its PQ. Instance: F1 of its
    masks at IoU 0.5 over detections scored 0.5 or more. None where nothing can be scored.
    """
    counts = parts[main_part(parts)]
    kind = kind_of(counts)
    if kind.image_scores is None:
        raise DataError(f"{type(counts).__name__} have no score of an image")
    return kind.image_scores(counts)
