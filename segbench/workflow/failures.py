"""Why a row of the board has no scores: the stage that stands still, and what ended it.

The stages of a row depend on each other: data, then weights, then predictions, then scores. The
first one without its result, though all that it needs is there, is the one to ask; the log of
any other stage is no reason, however it ends.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from segbench.core.lease import living_owner
from segbench.workflow import slurm as cluster
from segbench.workflow.cell import Cell
from segbench.workflow.plan import Plan
from segbench.workflow.slurm_logs import CAUSES, FOLDER, Job, jobs_of

Status = Literal["failed", "running", "not_run"]

TAIL_BYTES = 256 * 1024
LONGEST = 500
"""Letters of a reason."""
TOGETHER_S = 5.0
"""Slurm's last line comes at most that long before that of the job it ends."""
SAME_TIME_S = 1.0
"""Files of one moment may be written in any order, as by a copy of the folder."""
ERROR = re.compile(r"(?P<before>^|.*?\W)[Ee]rror: (?P<what>\S.*)")
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?::|$)")
DIED = re.compile(
    r"Fatal Python error: |terminate called |Segmentation fault|Killed$|SIG\w+: saved at "
    r"|.*: command not found$|.*: No module named "
)
"""How last words begin that are neither an error of ours nor the end of a traceback."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
RANK = re.compile(r"^\[rank\d+\]: ?")


@dataclass(frozen=True)
class Stage:
    """One step of a row, as far as it leaves traces.

    ``wildcards`` are in the order of the rule's output, ``after`` are the steps it reads from.
    """

    rule: str
    wildcards: tuple[str, ...]
    log: Path
    results: tuple[Path, ...]
    after: tuple[Stage, ...] = ()
    state: Path | None = None
    """Folder of the states of a training, which tell whether it is alive."""

    @property
    def done(self) -> bool:
        return all(path.exists() for path in self.results)


@dataclass(frozen=True)
class Failure:
    """Why there are no scores; ``log`` is the one to read, where there is one."""

    status: Status
    reason: str
    log: Path | None = None


def explain(plan: Plan, cell: Cell) -> Failure:
    """Say why a cell of the board has no scores."""
    root = plan.results
    last = _scoring(plan, cell)
    if last.done:
        return Failure("failed", "evaluate: its records lack the scores of this task", last.log)
    stage = _standing(last)
    log = stage.log if stage.log.exists() else None
    jobs = jobs_of(root / FOLDER, stage.rule, stage.wildcards)
    status, reason = _how(stage, log, jobs[-1] if jobs else None)
    if log is None and jobs:
        log = jobs[-1].log
    return Failure(status, f"{stage.rule}{_whose(stage, cell)}: {reason}"[:LONGEST], log)


def _whose(stage: Stage, cell: Cell) -> str:
    """Return `` of <run>`` where a row waits for the work of another one."""
    if len(stage.wildcards) == 1:
        return "" if stage.wildcards[0] == cell.dataset else f" of {stage.wildcards[0]}"
    own = stage.wildcards[:2] == (cell.dataset, cell.experiment)
    return "" if own else f" of {'/'.join(stage.wildcards[:2])}"


def _how(stage: Stage, log: Path | None, job: Job | None) -> tuple[Status, str]:
    """Return how the last attempt of a stage ended, if there was one."""
    if job is not None and log is not None and _time(job.log) + TOGETHER_S < _time(log):
        job = None  # the log is of a later attempt, without Slurm
    times = [_time(path) for path in (log, job and job.log) if path]
    if not times:
        return "not_run", "no job of it has started yet"
    made = [_time(path) for earlier in stage.after for path in earlier.results]
    if max(times) + SAME_TIME_S < max(made, default=0):
        return "not_run", "not started since what it reads was made"
    if (runner := _runner(stage, log, job)) is not None:
        return "running", runner
    text = _tail(log) if log else ""
    if job is not None and job.cause is not None:
        return "failed", str(job)
    return "failed", last_words(text) or _killed(text, job)


def _killed(text: str, job: Job | None) -> str:
    """Return what can be said of an attempt that left no message."""
    if job is not None:
        job = replace(job, cause=CAUSES.get(cluster.state_of_job(job.number)))
        if job.cause is not None:
            return str(job)
    where = "" if job is None else f" in {job}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = f"; the last line of its log: {lines[-1]}" if lines else ""
    return f"killed{where}, no message{last}"


def _runner(stage: Stage, log: Path | None, job: Job | None) -> str | None:
    """Return who is at work at a stage right now."""
    for folder in sorted(stage.state.glob("*/")) if stage.state else ():
        if (owner := living_owner(folder)) is not None:
            return f"running: {owner}"
    if log is not None and (pid := _writer(log)) is not None:
        return f"running: process {pid}"
    if job is not None and job.cause in (None, "node", "preempted", "requeued"):
        state = cluster.state_of_job(job.number)
        if state in cluster.ALIVE:
            return f"{state.lower()}: Slurm job {job.number}"
    return None


def last_words(text: str) -> str | None:
    """Return what a log ends with: the last error message, or the last line of a traceback.

    Lines of several processes may stand between those of one, or on the same line.
    """
    found = inside = None
    in_traceback = False
    for raw in text.replace("\r", "\n").splitlines():
        line = RANK.sub("", COLOUR.sub("", raw)).rstrip()
        error = ERROR.match(line)
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif error and not error["before"]:
            found, in_traceback = error["what"], False
        elif (in_traceback and EXCEPTION.match(line)) or DIED.match(line):
            found, in_traceback = line, False
        elif error and not in_traceback:
            inside = error["what"]
    return found or inside


def _standing(stage: Stage) -> Stage:
    """Return the first stage without a result among those that this one needs, or itself."""
    for earlier in stage.after:
        if not earlier.done:
            return _standing(earlier)
    return stage


def _scoring(plan: Plan, cell: Cell) -> Stage:
    root, data = plan.results, _data(plan.results, cell.dataset)
    names = (*_names(cell), cell.split)
    rule = {"control": "control", "submission": "submit"}.get(cell.kind, "predict")
    predictions = Stage(
        rule,
        names,
        root / "logs" / rule / cell.split / f"{cell.folder}.log",
        (root / cell.folder / "predictions" / cell.split / "manifest.json",),
        (data, _training(plan, cell)) if rule == "predict" else (data,),
    )
    return Stage(
        "evaluate",
        names,
        root / "logs/evaluate" / cell.split / f"{cell.folder}.log",
        (root / cell.folder / "evaluation" / cell.split / "records.json",),
        (data, predictions),
    )


def _training(plan: Plan, cell: Cell) -> Stage:
    """Return the training whose weights a cell predicts with; it may wait for another one."""
    root, folder = plan.results, cell.trained_folder
    trained = plan.by_key[cell.dataset, cell.trained_as or cell.experiment, cell.seed]
    base = plan.base_of(trained)
    return Stage(
        "train",
        _names(trained),
        root / "logs/train" / f"{folder}.log",
        tuple(root / folder / n for n in ("weights.safetensors", "recipe.json", "train_log.jsonl")),
        (_data(root, cell.dataset), *([] if base is None else [_training(plan, base)])),
        root / "state" / folder,
    )


def _data(root: Path, dataset: str) -> Stage:
    logs, names = root / "logs", (dataset,)
    raw = Stage(
        "download", names, logs / "download" / f"{dataset}.log", (root / "raw" / f"{dataset}.json",)
    )
    made = (root / "data" / dataset / "dataset.json",)
    return Stage("prepare", names, logs / "prepare" / f"{dataset}.log", made, (raw,))


def _names(cell: Cell) -> tuple[str, ...]:
    return cell.dataset, cell.experiment, str(cell.seed)


def _tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return stream.read().decode(errors="replace")


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _writer(log: Path) -> int | None:
    """Return a process of this machine that has a log open for writing."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for entry in (process / "fd").iterdir():
                if entry.samefile(log) and _writes(process / "fdinfo" / entry.name):
                    return int(process.name)
    return None


def _writes(info: Path) -> bool:
    flags = re.search(r"^flags:\s*([0-7]+)", info.read_text(), re.MULTILINE)
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY
