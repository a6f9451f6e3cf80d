"""One launch of the workflow: it alone writes into a results folder, and it ends tidily.

Snakemake's own lock belongs to a working directory, names nobody and outlives a kill; on
SIGTERM it waits for its jobs, and after an interrupt their outputs stay marked as incomplete.
The Snakefile uses this module instead. Snakemake's objects are handed in: nothing of it is
imported here.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from segbench.core import processes
from segbench.core.errors import DataError, LeaseHeld, SegbenchError
from segbench.core.lease import Lease, living_owner, newest_owner, read_owner
from segbench.core.stopping import SIGNALS, Requests

FOLDER = ".launch"
"""Folder in a results folder that says who writes there."""
BEAT_S, STALE_S = 5.0, 60.0
LOOK_S = 0.1
"""Between two looks for jobs that have started while the others were being stopped."""
AT_ONCE_S = 5.0


class Launch:
    """The main process of a workflow.

    Args:
        results: The results folder it writes.
        workflow: Snakemake's workflow; it has a ``scheduler`` when jobs run.
        shell: Snakemake's ``shell``; it knows the processes of the running jobs.
    """

    def __init__(self, results: Path, workflow: Any, shell: Any) -> None:
        self.results, self._workflow, self._shell = Path(results), workflow, shell
        self._requests = Requests()
        self._at_once = False
        self._local = True
        self._running = False
        self._over = threading.Event()

    def begin(self) -> None:
        """Take the signals, and end with ``segbench run`` where that has started this process."""
        self._listen()
        processes.end_with_parent()
        os.environ[processes.PARENT] = processes.myself()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own the results folder while the block runs; where it is owned, exit with one line."""
        with ExitStack() as stack:
            try:
                stack.enter_context(own(self.results, shlex.join(["snakemake", *sys.argv[1:]])))
            except SegbenchError as error:
                sys.stderr.write(f"error: {error}\n")
                sys.stderr.flush()
                raise SystemExit(error.exit_code) from None
            yield

    def start(self) -> None:
        """Jobs run from now on. Snakemake has put a handler of its own in place by now."""
        self._running, self._local = True, bool(self._workflow.local_exec)
        self._listen()

    def finish(self) -> bool:
        """No job runs any more; say whether there is time to show what was finished."""
        self._over.set()
        self._running = False
        return not self._at_once

    def leave(self) -> None:
        """Exit as the signal asks that ended the launch; return where there was none."""
        if self._requests.first is not None:
            raise SystemExit(self._requests.exit_code)

    def _listen(self) -> None:
        with suppress(ValueError):  # not the main thread: whoever embeds Snakemake decides
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        """Handle a signal. No lock of Snakemake may be asked for here: it may be held."""
        first = self._requests.first is None
        at_once = self._requests.note(number)
        if not self._running and first:
            self._end_here()
        elif first:
            name = signal.Signals(number).name
            _say(f"{name}: stopping; trainings save their state. Ctrl-C once more ends at once.")
            threading.Thread(target=self._end_jobs, daemon=True).start()
        elif at_once and not self._at_once:
            self._at_once = True
            _say("stopping at once")
            threading.Thread(target=self._kill_jobs, daemon=True).start()
        if self._running and not self._local and (first or at_once):
            raise KeyboardInterrupt  # Snakemake cancels its jobs on the cluster

    def _end_here(self) -> NoReturn:
        """Leave where no job runs: while the plan is made, or the board of a failed launch."""
        processes.kill_below(psutil.Process())
        raise SystemExit(self._requests.exit_code)

    def _end_jobs(self) -> None:
        """Ask the jobs to end; Snakemake then judges their outputs as those of any job."""
        if self._local:
            self._workflow.scheduler.exit_gracefully()
        while not self._over.wait(LOOK_S):
            for job in list(self._shell._processes):
                self._shell.terminate(job)

    def _kill_jobs(self) -> None:
        end = time.monotonic() + AT_ONCE_S
        while self._local and time.monotonic() < end:
            processes.kill_below(psutil.Process())
            time.sleep(LOOK_S)
        if self._local:
            os._exit(self._requests.exit_code)


def own(results: Path, command: str) -> Lease:
    """Return the lease of a results folder; entering it raises what is wrong in one line.

    Args:
        results: The folder to write.
        command: What to tell others that ask who writes there.
    """
    return ResultsLease(
        results / FOLDER, beat_s=BEAT_S, stale_s=STALE_S, waits=False, command=command
    )


def launch_finding(results: Path) -> dict[str, str]:
    """Say who writes into a results folder, as a finding of ``segbench doctor``."""
    folder, check = results / FOLDER, "launch"
    fence = newest_owner(folder)
    owner = None if fence is None else read_owner(folder, fence)
    if owner is None or owner.released:
        return {"check": check, "status": "ok", "detail": f"nothing writes into {results}"}
    if living_owner(folder) is not None:
        return {"check": check, "status": "note", "detail": f"{results} is in use by {owner}"}
    if owner.host == socket.gethostname():
        detail = f"the last one was killed ({owner}); the next launch goes on, no unlock is needed"
    else:
        detail = f"{results} is in use by {owner}, or was when that was killed: look on that host"
    return {"check": check, "status": "note", "detail": detail}


class ResultsLease(Lease):
    """A lease whose errors speak of launches."""

    def __enter__(self) -> Lease:
        results = self.folder.parent
        try:
            return super().__enter__()
        except LeaseHeld as error:
            raise LeaseHeld(
                f"{results} is in use by {error.what}",
                fix="wait for it to end, or stop it (Ctrl-C, or `kill` with its number)",
            ) from None
        except OSError as error:
            raise DataError(
                f"cannot write into {results}: {error.strerror or error}",
                fix="make the folder writable or choose another results folder",
            ) from error


def _say(text: str) -> None:
    """Write past the buffers: the signal may have interrupted a write to them."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
