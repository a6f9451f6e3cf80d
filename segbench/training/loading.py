"""Batches made by other processes: in order, and never waited for in vain.

Process w of W makes every W-th batch and hands it over through shared memory. What goes wrong
there comes back as an error: a broken image, memory that ran out, a process that was killed.
``torch.utils.data.DataLoader`` hands over in a thread of its own, and what that thread cannot
send is lost: the training waits for it for ever.
"""

from __future__ import annotations

import pickle
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

import torch

from segbench.core.errors import TrainingError
from segbench.core.faults import as_fault
from segbench.core.progress import say

SHARED = "/dev/shm"
"""Where Linux keeps the memory that processes share."""
AHEAD = 2
"""Batches of each process that are made before they are needed."""
REMIND_S = 60.0
WORKER_GRACE_S = 4
"""Seconds a loader process lives on after SIGTERM or SIGUSR1."""
END_S = 5.0
"""Seconds that loader processes have to end before they are killed."""

Value = TypeVar("Value")


def load(
    make: Callable[[Any], Value], items: Sequence[Any], *, workers: int, doing: str
) -> Generator[Value, None, None]:
    """Return ``make(item)`` of every item, in order; closing it ends the processes.

    Args:
        make: Makes a batch; the processes start as copies of this one and so have it.
        items: What ``make`` is called with.
        workers: Number of processes, which start at once; 0 makes every batch here.
        doing: What the batches are for, as "training batches of 8", for messages.

    Raises:
        TrainingError: A process was killed, or shared memory ran out.
    """
    if not workers or not items:
        return (make(item) for item in items)
    return _closing(_Pool(make, items, workers, doing))


def _closing(pool: _Pool[Value]) -> Generator[Value, None, None]:
    try:
        yield from pool.results()
    finally:
        pool.close()


def pinned(
    batches: Generator[Value, None, None], pin: Callable[[Value], Value]
) -> Generator[Value, None, None]:
    """Yield batches in page-locked memory, the next of which is fetched meanwhile."""
    end = object()

    def fetch() -> Any:
        batch = next(batches, end)
        return batch if batch is end else pin(batch)  # type: ignore[arg-type]

    with closing(batches), ThreadPoolExecutor(1, thread_name_prefix="pin") as thread:
        coming = thread.submit(fetch)
        while (batch := coming.result()) is not end:
            coming = thread.submit(fetch)
            yield batch


class _Unsent(Exception):
    """A batch that was made and could not be handed over, with the reason."""

    def explained(self, doing: str) -> TrainingError:
        """Return the error that names the resource and the way on."""
        what = f"a data loading process cannot hand over {doing} through {SHARED}"
        if "Too many open files" in str(self):
            return TrainingError(
                f"{what}: {self}", fix="set workers: 0 in the recipe, or raise ulimit -n"
            )
        return TrainingError(
            f"out of memory: {what} ({_shared_size()}): {self}",
            fix=f"set workers: 0 in the recipe, or make {SHARED} larger "
            "(in a container: docker run --shm-size=8g)",
        )


class _Pool(Generic[Value]):
    """The loader processes and a pipe to each."""

    def __init__(
        self, make: Callable[[Any], Value], items: Sequence[Any], workers: int, doing: str
    ) -> None:
        self.items, self.doing = items, doing
        self.ends: list[connection.Connection] = []
        self.processes: list[BaseProcess] = []
        for _ in range(min(workers, len(items))):
            self._start(make)

    def _start(self, make: Callable[[Any], Value]) -> None:
        context = get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(make, there, [*self.ends, here]), daemon=True)
        with warnings.catch_warnings():  # threads of linear algebra idle and are not needed
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        there.close()  # so that the end of the process is the end of the pipe
        self.ends.append(here)
        self.processes.append(process)

    def results(self) -> Iterator[Value]:
        ahead = AHEAD * len(self.ends)
        for k in range(min(ahead, len(self.items))):
            self._ask(k)
        for k in range(len(self.items)):
            value = self._answer(k % len(self.ends))
            if k + ahead < len(self.items):
                self._ask(k + ahead)
            yield value

    def _ask(self, k: int) -> None:
        with suppress(OSError):  # a dead process is found when its answer is wanted
            self.ends[k % len(self.ends)].send(self.items[k])

    def _answer(self, number: int) -> Value:
        end, waited = self.ends[number], 0.0
        while not end.poll(REMIND_S):
            waited += REMIND_S
            say(f"waiting for a batch for {waited:.0f} s: loader process {number} is at work")
        try:
            worked, value = pickle.loads(end.recv_bytes())
        except Exception as error:
            self._explain_death(number, error)
            raise
        if worked:
            return value  # type: ignore[no-any-return]
        if isinstance(value, _Unsent):
            raise value.explained(self.doing)
        raise value

    def _explain_death(self, number: int, error: Exception) -> None:
        """Raise ``TrainingError`` if a batch cannot be read because its process is dead."""
        process = self.processes[number]
        process.join(END_S)
        code = process.exitcode
        if code is not None:
            how = f"exit code {code}" if code >= 0 else f"signal {_signal_name(-code)}"
            raise TrainingError(
                f"a data loading process died {self.doing}: {how}",
                fix="ask for more memory, or set workers: 0 in the recipe",
            ) from error

    def close(self) -> None:
        """End the processes: at once those that wait, those at work after their batch."""
        for end in self.ends:
            end.close()
        last = time.monotonic() + END_S
        for process in self.processes:
            process.join(max(0.0, last - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()


def _work(
    make: Callable[[Any], Any], end: connection.Connection, foreign: list[connection.Connection]
) -> None:
    """Make what is asked for until nobody asks any more."""
    _outlive_signals()
    torch.set_num_threads(1)
    for other in foreign:  # or the trainer's end would not end them
        other.close()
    with suppress(EOFError, OSError):
        while True:
            end.send_bytes(_answer_to(make, end.recv()))


def _answer_to(make: Callable[[Any], Any], item: Any) -> Any:
    """Return a pickled batch in shared memory, or the error that came in its place."""
    try:
        batch = make(item)
    except Exception as error:
        return ForkingPickler.dumps((False, _sendable(error)))
    try:
        return ForkingPickler.dumps((True, batch))
    except Exception as error:
        return ForkingPickler.dumps((False, _Unsent(str(error).partition(chr(10))[0])))


def _sendable(error: Exception) -> Exception:
    """Return an error that another process can be given, with the place it came from."""
    if as_fault(error) is None:
        error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _shared_size() -> str:
    try:
        use = shutil.disk_usage(SHARED)
    except OSError:
        return "not there"
    return f"{use.total / 2**20:.3g} MiB, {use.free / 2**20:.3g} MiB free"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _outlive_signals() -> None:
    """Outlive the signals of a preemption a little: the trainer still needs its batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: signal.alarm(WORKER_GRACE_S))
