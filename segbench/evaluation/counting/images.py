"""Images counted in parts, by one process or several: the same counts in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from segbench.core.pool import SMALLEST, in_processes
from segbench.core.progress import track
from segbench.formats import kernel_loading as speed
from segbench.formats.png_decoder import pixels_of

MAX_PART = 32
"""Images of a part: its counts are joined by the worker, which leaves the parent little to do."""
MIN_PART = 4
_BLOCK = 2**25 - 2**16
"""Bytes; no block from 2^25 on is ever kept."""
Result = TypeVar("Result")
_count: Callable[[range], Any] | None = None
"""What this worker process calls for each of its parts."""


def count_in_parts(
    count: Callable[[range], Result], number: int, *, label: str, workers: int = 1
) -> Iterator[Result]:
    """Yield the counts of images 0 to ``number`` - 1 in parts, in order.

    Args:
        count: Counts the images of a range; with several workers it must be picklable.
        number: Number of images.
        label: What the work is called in the log.
        workers: Processes; few images are always counted here.

    Raises:
        DataError: A worker process was killed, or what ``count`` raises.
    """
    _keep_memory()
    parts = list(_parts(number, workers))
    results: Iterable[Result] = (count(part) for part in parts)
    if workers > 1 and number >= SMALLEST:
        arguments = (count, speed.kernels() is not None)
        results = in_processes(
            _work, parts, workers=workers, begin=_begin, arguments=arguments, inherit=True
        )
    for step in track(_image_by_image(results, parts), number, label):
        yield from step


def _parts(number: int, workers: int) -> Iterator[range]:
    """Yield parts that end small, so that all workers end at about the same time."""
    start = 0
    while start < number:
        size = max(MIN_PART, min(MAX_PART, (number - start) // (4 * workers)))
        yield range(start, min(start + size, number))
        start += size


def load_for(number: int, example: Path) -> None:
    """Load the compiled loops if that many label maps of the example's size are worth it."""
    speed.load_for(number * pixels_of(example))


def _keep_memory() -> None:
    """Let the maps of an image lie where those of the one before lay.

    glibc gives blocks back to the system, page by page to be zeroed for the next image, that are
    larger than any such block freed before; this one is never written to. Elsewhere it is nothing.
    """
    np.empty(_BLOCK, dtype=np.uint8)


def _image_by_image(results: Iterable[Result], parts: Sequence[range]) -> Iterator[list[Result]]:
    """Yield one list an image, for the progress: the part's result with its last image."""
    for result, part in zip(results, parts, strict=True):
        yield from ([] for _ in part[1:])
        yield [result]


def _begin(count: Callable[[range], Any], compiled: bool) -> None:
    global _count
    _count = count
    _keep_memory()
    if compiled:
        speed.load()


def _work(part: range) -> Any:
    assert _count is not None, "the pool calls _begin first"
    return _count(part)
