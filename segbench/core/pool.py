"""Work on many items at once with few of them in memory; results come in order.

Processes are started anew ("spawn"), so that they inherit no thread and no lock; those that may
inherit are copies of this one where that is safe, and have nothing to import. They leave Ctrl-C
to the process that started them, and end themselves when that process is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from segbench.core.errors import DataError

AHEAD = 4
"""Items a worker that are handed out before the oldest result is asked for."""
THREADS = 4
SMALLEST = 64
"""Fewer items than this are done faster here than by processes that must start first."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the processor cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of work that mostly waits for files or hashes them."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from _in_order(pool, work, items, ahead=AHEAD * THREADS)


def in_processes(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    begin: Callable[..., None],
    arguments: tuple[Any, ...],
    inherit: bool = False,
) -> Iterator[Result]:
    """Yield the results of ``work``, a function of a module, done in other processes.

    They start at once, before the caller shows a progress bar, which is a thread.

    Args:
        work: Called with one item.
        items: What can be pickled.
        workers: Number of processes.
        begin: Called once in each process, with ``arguments``, before anything else.
        arguments: See ``begin``.
        inherit: Let processes start as copies of this one where it has no other thread.

    Raises:
        DataError: A process was killed.
    """
    context = multiprocessing.get_context("fork" if inherit and _may_fork() else "spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(begin, arguments)
    )
    with warnings.catch_warnings():  # threads of linear algebra idle and are not needed
        warnings.simplefilter("ignore", DeprecationWarning)
        pool.submit(available_cores)
    return _results(pool, work, items, ahead=AHEAD * workers)


def _may_fork() -> bool:
    return sys.platform == "linux" and threading.active_count() == 1


def _results(
    pool: ProcessPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    try:
        yield from _in_order(pool, work, items, ahead=ahead)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process ended before its work was done: killed, or out of memory",
            fix="run the same command again, with fewer --workers if memory is short",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin(begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*arguments)


def _end_with_parent() -> None:
    """Leave no orphan: a parent that was killed cannot say that the work is over."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
