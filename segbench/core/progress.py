"""Progress of long work: a bar on a terminal, one plain line per 30 seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
INTERVAL_S = 30.0


def say(text: str) -> None:
    """Write one line to standard error at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def track(
    items: Iterable[Item],
    total: int,
    label: str,
    *,
    start: int = 0,
    interval_s: float = INTERVAL_S,
    status: Callable[[], str] | None = None,
) -> Iterator[Item]:
    """Yield the items and show how far the loop is.

    Args:
        items: What to loop over.
        total: Number of items of the whole job, those before ``start`` included.
        label: What the work is called in the log.
        start: Items done by an earlier attempt.
        interval_s: Seconds between two lines when standard error is no terminal.
        status: Gives a few words to show behind the numbers, as the loss.
    """
    words = status or (lambda: "")
    if sys.stderr.isatty():
        yield from _bar(items, total, label, start, words)
    else:
        yield from _lines(items, total, label, start, interval_s, words)


def _bar(
    items: Iterable[Item], total: int, label: str, start: int, status: Callable[[], str]
) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining()
    columns = (*shown, TextColumn("{task.fields[status]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, completed=start, status="")
        for item in items:
            yield item
            progress.update(task, advance=1, status=status())


def _lines(
    items: Iterable[Item],
    total: int,
    label: str,
    start: int,
    interval_s: float,
    status: Callable[[], str],
) -> Iterator[Item]:
    begin = last = time.monotonic()
    done = start
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= interval_s:
            last = now
            words = status()
            line = _line(label, done, total, (done - start) / (now - begin))
            say(f"{line}, {words}" if words else line)
    elapsed = time.monotonic() - begin
    say(f"{label}: {done}/{total} done in {elapsed:.1f} s")


def _line(label: str, done: int, total: int, rate: float) -> str:
    remaining = (total - done) / rate if rate > 0 else float("inf")
    percent = 100 * done / max(total, 1)
    return f"{label}: {done}/{total} ({percent:.0f} %), {rate:.2f}/s, {remaining:.0f} s left"


def track_bytes(
    sizes: Iterable[int],
    total: int | None,
    label: str,
    *,
    start: int = 0,
    interval_s: float = INTERVAL_S,
) -> Iterator[int]:
    """Yield the sizes of chunks and show how many bytes are through, how fast, how long still.

    Args:
        sizes: Bytes of each chunk.
        total: Bytes of the whole job, those before ``start`` included; None if unknown.
        label: What the work is called in the log.
        start: Bytes done by an earlier attempt.
        interval_s: Seconds between two lines when standard error is no terminal.
    """
    if sys.stderr.isatty():
        yield from _byte_bar(sizes, total, label, start)
    else:
        yield from _byte_lines(sizes, total, label, start, interval_s)


def _byte_bar(sizes: Iterable[int], total: int | None, label: str, start: int) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.progress import TransferSpeedColumn as Speed

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), Remaining()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, completed=start)
        for size in sizes:
            yield size
            progress.update(task, advance=size)


def _byte_lines(
    sizes: Iterable[int], total: int | None, label: str, start: int, interval_s: float
) -> Iterator[int]:
    begin = last = time.monotonic()
    done = start
    for size in sizes:
        yield size
        done += size
        now = time.monotonic()
        if now - last >= interval_s:
            last = now
            say(f"{label}: {_byte_line(done, total, (done - start) / (now - begin))}")
    elapsed = max(time.monotonic() - begin, 1e-9)
    rate = (done - start) / elapsed / 1e6
    say(f"{label}: {done / 1e6:.1f} MB done in {elapsed:.1f} s, {rate:.1f} MB/s")


def _byte_line(done: int, total: int | None, rate: float) -> str:
    """Return ``done of total (percent), speed, time left``; less where no total is known."""
    speed = f"{rate / 1e6:.1f} MB/s"
    if not total:
        return f"{done / 1e6:.1f} MB, {speed}"
    left = f"{max(0, total - done) / rate:.0f} s left" if rate > 0 else "stalled"
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB ({100 * done / total:.0f} %), {speed}, {left}"
