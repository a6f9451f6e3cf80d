"""What Slurm wrote into the logs of our jobs: why one was ended, and what it had asked for.

The executor keeps one log a job, ``<folder>/rule_<rule>/<wildcards>/<job id>.log``. Slurm adds a
line to it when it ends a job before its time; where there is no accounting, that line is all
that remains of the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Cause = Literal["memory", "time", "node", "preempted", "requeued", "cancelled"]

FOLDER = "logs/slurm"
"""Where the profile keeps these logs, in the results folder."""
TAIL_BYTES = 64 * 1024
MOST_TIMES = 3
"""A job never asks for more than this many times what its rule asks at first."""
SIGNS: tuple[tuple[Cause, str], ...] = (
    ("memory", r"exceeded (?:job )?memory limit|oom[-_ ]?kill|out[- ]of[- ]memory"),
    ("time", r"DUE TO TIME LIMIT"),
    ("node", r"DUE TO NODE FAILURE"),
    ("preempted", r"DUE TO PREEMPTION"),
    ("requeued", r"DUE TO JOB REQUEUE"),
    ("cancelled", r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT"),
)
"""What Slurm's own lines say, the sure signs first: a job over its memory is cancelled too."""
CAUSES: dict[str, Cause] = {
    "OUT_OF_MEMORY": "memory", "TIMEOUT": "time", "DEADLINE": "time", "NODE_FAIL": "node",
    "BOOT_FAIL": "node", "PREEMPTED": "preempted", "CANCELLED": "cancelled",
}  # fmt: skip
"""The same in the words of squeue and sacct."""
SPEAKER = re.compile(r"^(?:slurmstepd|slurmd|srun)(?:-[\w.-]+)?: ")
"""How a line of Slurm's begins; what our own programs print is no sign."""


@dataclass(frozen=True)
class Job:
    """One job and how it ended, as far as its log tells."""

    number: str
    log: Path
    cause: Cause | None
    memory_mb: int | None
    """What it asked for; None where the log has not come so far."""
    minutes: int | None

    def __str__(self) -> str:
        asked = "" if self.memory_mb is None else f" (asked {self.memory_mb} MB)"
        limit = "time limit" if self.minutes is None else f"time limit of {self.minutes} min"
        told = {
            "memory": f"out of memory in Slurm job {self.number}{asked}",
            "time": f"{limit} reached in Slurm job {self.number}",
            "node": f"the node of Slurm job {self.number} was lost",
            "preempted": f"Slurm job {self.number} was preempted",
            "requeued": f"Slurm job {self.number} was put back into the queue",
            "cancelled": f"Slurm job {self.number} was cancelled",
        }
        return told[self.cause] if self.cause else f"Slurm job {self.number}"


def jobs_of(folder: Path, rule: str, wildcards: Sequence[str]) -> list[Job]:
    """Return the jobs of one step whose logs are kept, the oldest first.

    Args:
        folder: Folder of the executor's logs.
        rule: Name of the rule.
        wildcards: Their values, in the order in which the rule's output has them.
    """
    name = "_".join(wildcards).replace("/", "_")
    logs = (folder / f"rule_{rule}" / name).glob("*.log")
    return [read_job(log) for log in sorted(logs, key=lambda path: path.stat().st_mtime)]


def read_job(log: Path) -> Job:
    """Return what the log of a job says."""
    with log.open("rb") as stream:
        head = stream.read(TAIL_BYTES)
        stream.seek(max(stream.tell(), log.stat().st_size - TAIL_BYTES))
        text = (head + stream.read()).decode(errors="replace")
    asked = {key: int(n) for key, n in re.findall(r"\b(mem_mb|runtime)=(\d+)", text)}
    return Job(log.stem, log, _cause(text), asked.get("mem_mb"), asked.get("runtime"))


def memory_mb(base: int, folder: Path, rule: str, wildcards: Sequence[str]) -> int:
    """Return the memory that the next attempt of a step asks for, in MB.

    It is ``base``, and ``base`` more than the largest that has been too little: a job that was
    preempted, ran out of time or failed of itself asks for the same again.

    Args:
        base: What the rule asks at first.
        folder: Folder of the executor's logs.
        rule: Name of the rule.
        wildcards: Their values, in the order in which the rule's output has them.
    """
    jobs = jobs_of(folder, rule, wildcards)
    short = [job.memory_mb or base for job in jobs if job.cause == "memory"]
    return min(max(short, default=0) + base, MOST_TIMES * base)


def _cause(text: str) -> Cause | None:
    said = [line for line in text.splitlines() if SPEAKER.match(line)]
    for cause, sign in SIGNS:
        if any(re.search(sign, line, re.IGNORECASE) for line in said):
            return cause
    return None
