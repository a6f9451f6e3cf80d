"""Ends a Snakemake that waits for cluster jobs which do not exist any more.

    python -m segbench.workflow.watchdog PID     started by the Snakefile beside every Slurm run

The Slurm executor loses sight of its jobs when the controller is away during a look at the
queue, when a job is forgotten before it was seen, or when it was preempted for good; then it
waits for ever, in silence. The watchdog looks at the queue itself. It stops Snakemake, with
the reason, when for a long time none of our jobs was in the queue and nothing ran here either,
or when the cluster gave no answer at all. The next launch goes on from what is finished.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segbench.core.faults import exit_codes
from segbench.core.progress import say
from segbench.workflow.slurm import JOB_PREFIX

FINISHED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"}
    | {"OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
)
QUESTIONS = frozenset({"sacct", "squeue", "scontrol", "which"})
"""Programs with which the executor looks at the queue; they are no work."""


@dataclass(frozen=True)
class Limits:
    """When to give up, in seconds.

    The executor itself may be idle for some minutes between two steps: it looks at the queue
    every 180 s at most, then waits for the file system.
    """

    idle: float = 20 * 60
    silent: float = 12 * 3600
    every: float = 30


@dataclass(frozen=True)
class Process:
    """A process, told from a later one of the same id by its start time."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        stat = _stat(pid)
        return cls(pid, stat[19]) if stat else None

    def alive(self) -> bool:
        stat = _stat(self.pid)
        return bool(stat) and stat[0] != "Z" and stat[19] == self.started

    def ends_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(min(1.0, seconds / 10))
        return True


def watch(process: Process, limits: Limits) -> str | None:
    """Watch until the process ends or must be ended; return the reason of the latter."""
    idle_since = silent_since = time.monotonic()
    while not process.ends_within(limits.every):
        jobs, now = jobs_in_queue(), time.monotonic()
        if jobs is not None:
            silent_since = now
        if jobs != 0 or works_here(process.pid):
            idle_since = now
        if now - idle_since >= limits.idle:
            return (
                f"for {limits.idle / 60:g} minutes no job of ours was in the queue and no step "
                f"ran here, yet Snakemake waits: the executor has lost sight of its jobs"
            )
        if now - silent_since >= limits.silent:
            return f"the cluster has not answered for {limits.silent / 3600:g} hours"
    return None


def stop(process: Process, *, grace_s: float = 30) -> bool:
    """Interrupt a Snakemake: twice, as a stuck one ignores the first; then kill it.

    Returns:
        Whether it ended by itself.
    """
    for number in (signal.SIGINT, signal.SIGINT):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        if process.ends_within(grace_s):
            return True
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    return False


def jobs_in_queue() -> int | None:
    """Return how many of our jobs wait or run; None when the cluster does not answer."""
    command = ["squeue", "--me", "--noheader", "--states=all", "--format=%j|%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.rpartition("|") for line in done.stdout.splitlines()]
    return sum(name.startswith(JOB_PREFIX) and state not in FINISHED for name, _, state in rows)


def works_here(pid: int) -> bool:
    """Say whether a process has children that do more than ask for the queue."""
    for entry in Path("/proc").glob("[0-9]*"):
        stat = _stat(int(entry.name))
        if stat and stat[0] != "Z" and stat[1] == str(pid) and int(entry.name) != os.getpid():
            with suppress(OSError):
                if (entry / "comm").read_text().strip() not in QUESTIONS:
                    return True
    return False


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def main(arguments: list[str]) -> None:
    """Watch one Snakemake to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m segbench.workflow.watchdog", description=__doc__
    )
    parser.add_argument("pid", type=int)
    parser.add_argument("--idle-minutes", type=float, default=Limits.idle / 60)
    parser.add_argument("--every-seconds", type=float, default=Limits.every)
    options = parser.parse_args(arguments)
    process = Process.of(options.pid)
    limits = Limits(idle=options.idle_minutes * 60, every=options.every_seconds)
    reason = watch(process, limits) if process else None
    if process and reason:
        say(f"watchdog: {reason}. Stopping it.")
        stop(process)
        say("  -> launch again: finished steps are kept, trainings resume")


if __name__ == "__main__":
    exit_codes(lambda: main(sys.argv[1:]))
