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
