"""Several processes for one training: ``python -m segbench.training.spawn 4 train ...``.

It stands in the place of torchrun, which turns every exit code into 1 and starts to end its
processes as soon as it is signalled itself. Here signals are handed on, a training that saves
its state gets the time for it, and the exit code is that of the process that failed first, or 75
("start me again") where all have saved. A process that fails takes the others with it, and none
outlives this one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from segbench.core.errors import EXIT_REQUEUE
from segbench.core.progress import say

HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
SAVING_S = 600.0
"""How long the others may take when one process has ended well or has saved the state."""
FAILED_S = 10.0
"""How long the others may take when one process has failed; they wait for it in vain."""
POLL_S = 0.05
PR_SET_PDEATHSIG = 1
Process = subprocess.Popen[bytes]


def spawn(
    count: int, command: Sequence[str], *, saving_s: float = SAVING_S, failed_s: float = FAILED_S
) -> int:
    """Run a command in several processes that find each other; return their common exit code.

    Args:
        count: Number of processes; each is told its rank as torchrun tells it.
        command: The program and its arguments, the same for all.
        saving_s: Seconds that the others may take after one has ended with 0 or 75.
        failed_s: Seconds that the others may take after any other end.
    """
    processes: list[Process] = []
    received: list[int] = []
    with _handing_on(processes, received), tempfile.TemporaryDirectory() as folder:
        try:
            for rank in range(count):
                environment = _environment(rank, count, Path(folder))
                processes.append(
                    subprocess.Popen(command, env=environment, preexec_fn=_end_with_parent)
                )
            for number in received:
                _send(processes, number)
            return _wait(processes, saving_s, failed_s)
        finally:
            _kill(processes)


def _wait(processes: Sequence[Process], saving_s: float, failed_s: float) -> int:
    """Wait for all; end those that outlive their time after the first end."""
    code, limit, ended = 0, float("inf"), set[int]()
    while len(ended) < len(processes):
        for rank, process in enumerate(processes):
            if rank in ended or process.poll() is None:
                continue
            ended.add(rank)
            own = _code(rank, process, len(processes))
            well = own in (0, EXIT_REQUEUE)
            code = own if code == 0 or (code == EXIT_REQUEUE and not well) else code
            limit = min(limit, time.monotonic() + (saving_s if well else failed_s))
            if not well:
                _send(processes, signal.SIGTERM)
        if time.monotonic() > limit:
            say(f"{len(processes) - len(ended)} of {len(processes)} processes do not end: killed")
            _kill(processes)
        time.sleep(POLL_S)
    return code


def _code(rank: int, process: Process, count: int) -> int:
    """Return the exit code of a process as a shell counts it; name the signal that killed it."""
    if process.returncode >= 0:
        return process.returncode
    name = signal.Signals(-process.returncode).name
    say(f"error: process {rank + 1} of {count} was killed by {name}")
    return 128 - process.returncode


def _environment(rank: int, count: int, folder: Path) -> Mapping[str, str]:
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "SEGBENCH_MEETING_FILE": str(folder / "meeting"),
    }


def _end_with_parent() -> None:
    """Let Linux send SIGTERM, on which a training saves its state, when this parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _handing_on(processes: Sequence[Process], received: list[int]) -> Iterator[None]:
    """Hand signals on while the block runs, and note them for processes that start later."""

    def hand_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        _send(processes, number)

    wanted = [number for number in HANDED_ON if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, hand_on) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(processes: Sequence[Process], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(number)


def _kill(processes: Sequence[Process]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def main(arguments: Sequence[str]) -> int:
    """Run ``segbench ARGUMENTS[1:]`` in ``ARGUMENTS[0]`` processes."""
    count, *command = arguments
    return spawn(int(count), [sys.executable, "-m", "segbench", *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
