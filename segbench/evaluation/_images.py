"""Images counted in parts, by one process or several: the same counts in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from segbench import speed
from segbench.png_reader import pixels_of
from segbench.pool import SMALLEST, in_processes
from segbench.progress import track

MAX_PART = 32
"""Images of a part: its counts are joined by the worker, which leaves the parent little to do."""
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
    size = max(1, min(MAX_PART, number // (8 * workers)))
    parts = [range(i, min(i + size, number)) for i in range(0, number, size)]
    results: Iterable[Result] = (count(part) for part in parts)
    if workers > 1 and number >= SMALLEST:
        arguments = (count, speed.kernels() is not None)
        results = in_processes(
            _work, parts, workers=workers, begin=_begin, arguments=arguments, inherit=True
        )
    for step in track(_image_by_image(results, parts), number, label):
        yield from step


def load_for(number: int, example: Path) -> None:
    """Load the compiled loops if that many label maps of the example's size are worth it."""
    speed.load_for(number * pixels_of(example))


def _image_by_image(results: Iterable[Result], parts: Sequence[range]) -> Iterator[list[Result]]:
    """Yield one list an image, for the progress: the part's result with its last image."""
    for result, part in zip(results, parts, strict=True):
        yield from ([] for _ in part[1:])
        yield [result]


def _begin(count: Callable[[range], Any], compiled: bool) -> None:
    global _count
    _count = count
    if compiled:
        speed.load()


def _work(part: range) -> Any:
    assert _count is not None, "the pool calls _begin first"
    return _count(part)
