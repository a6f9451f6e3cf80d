"""Kill the making of a small board at random moments, finish it, compare it with an unbroken one.

    python benchmarks/soak.py --kills 60 --json docs/soak.json

A victim is a process of a stage. It dies when it has used a random share of the processor time
that the stage took in the unbroken run, so that a busy machine changes nothing. Killed is the
step alone, Snakemake alone, ``segbench run`` alone, or everything; SIGINT goes to the process
group of the launch, as Ctrl-C does. After each kill the same command is launched again until the
board is done.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soak_board import ROOT, STAGES, Board, Process, differences, left_over

HOWS = (
    [("SIGKILL", "step")] * 6
    + [("SIGKILL", "all")] * 6
    + [("SIGKILL", "snakemake"), ("SIGKILL", "launcher")] * 2
    + [("SIGINT", "all")] * 3
    + [("SIGTERM", "launcher")] * 2
    + [("SIGTERM", "step")]
)
"""Signals and whom they hit; each kind in this share."""
POLL_S = 0.02
REFUSED = 3
"""Exit code of a launch into a results folder that another one writes into."""
LAUNCHES_A_KILL = 4


@dataclass
class Soak:
    """What is still to be killed and what was."""

    rng: random.Random
    cpu_s: dict[str, float]
    """Processor time of one process of each stage in the unbroken run."""
    pending: Counter[str]
    hows: list[tuple[str, str]]
    kills: list[dict[str, Any]] = field(default_factory=list)
    launches: int = 0
    missed: int = 0
    refused: int = 0
    orphans: int = 0
    wrong: list[str] = field(default_factory=list)
    """Files that differ from those of the unbroken board."""
    problems: list[str] = field(default_factory=list)

    def finish(self, board: Board) -> None:
        """Launch a board until it is done, killing what is due on the way."""
        alone = 0
        while (code := self._launch(board)) != 0:
            if board.launches > LAUNCHES_A_KILL * (len(self.kills) + 3):
                raise SystemExit(f"no end of {board.folder}:\n{board.log.read_text()[-3000:]}")
            if code == REFUSED:
                self.refused += 1
                alone = 0 if board.processes() else alone + 1
                if alone > 1:  # once it may have ended between the refusal and the look
                    self.problems.append(f"refused by a dead one: {board.log.read_text()[-300:]}")
                board.settle(300)
        for process in board.settle(60):
            self.problems.append(f"left running: {' '.join(process.arguments)}")

    def _launch(self, board: Board) -> int:
        self.launches += 1
        launcher, seen, hit = board.launch(), set(), None
        victim: tuple[Process, float] | None = None
        while launcher.poll() is None:
            living = board.processes()
            if victim is None:
                victim = self._choose(living, seen)
            elif (now := _find(living, victim[0].pid)) is None or now.stage != victim[0].stage:
                self.missed, victim = self.missed + 1, None  # it has ended; a zombie has no words
            elif now.cpu_s >= victim[1]:
                hit, victim = self._kill(board, launcher, now, living), None
            time.sleep(POLL_S)
        if hit in ("SIGINT all", "SIGTERM launcher"):
            left = board.settle(10)
            self.orphans += len(left)
            for process in left:
                self.problems.append(f"orphan of {hit}: {' '.join(process.arguments)}")
        return launcher.returncode

    def _choose(self, living: Sequence[Process], seen: set[int]) -> tuple[Process, float] | None:
        """Return a process whose stage is due, and the processor time at which it dies."""
        stages = {process.pid: process.stage for process in living}
        for process in living:
            first = stages.get(process.parent) != process.stage  # no worker of such a process
            if first and process.pid not in seen and self.pending[process.stage] > 0:
                seen.add(process.pid)
                share = self.rng.uniform(0.05, 0.9)
                return process, share * self.cpu_s.get(process.stage, 1.0)
        return None

    def _kill(
        self, board: Board, launcher: subprocess.Popen[bytes], victim: Process,
        living: Sequence[Process],
    ) -> str:  # fmt: skip
        name, target = self.hows.pop()
        number = signal.Signals[name]
        snakemake = next((p.pid for p in living if p.stage == "snakemake"), launcher.pid)
        if target == "all" and number == signal.SIGINT:
            os.killpg(launcher.pid, number)
        else:
            pids = {
                "step": [victim.pid], "snakemake": [snakemake], "launcher": [launcher.pid],
                "all": [process.pid for process in living],
            }[target]  # fmt: skip
            for pid in pids:
                _send(pid, number)
        self.pending[victim.stage] -= 1
        kill = {"stage": victim.stage, "signal": name, "target": target}
        kill |= {"cpu_s": victim.cpu_s, "checkpoint": board.checkpoint(victim)}
        self.kills.append(kill)
        print(
            f"{len(self.kills):3} {name} {target:9} at {victim.cpu_s:5.2f} s of {victim.stage}"
            f" in {board.folder.name}, launch {board.launches}",
            flush=True,
        )
        return f"{name} {target}"


def _find(living: Sequence[Process], pid: int) -> Process | None:
    return next((process for process in living if process.pid == pid), None)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def measure(board: Board) -> dict[str, float]:
    """Make the unbroken board; return the mean processor seconds of a process of each stage."""
    launcher, seen = board.launch(), {}
    while launcher.poll() is None:
        living = board.processes()
        stages = {process.pid: process.stage for process in living}
        for process in living:
            if process.stage in STAGES and stages.get(process.parent) != process.stage:
                seen[process.pid] = process
        time.sleep(POLL_S)
    if launcher.returncode:
        raise SystemExit(f"the unbroken run failed:\n{board.log.read_text()[-3000:]}")
    times = {stage: [p.cpu_s for p in seen.values() if p.stage == stage] for stage in STAGES}
    return {stage: sum(all_) / len(all_) for stage, all_ in times.items() if all_}


def kill_boards(
    unbroken: Board, cpu_s: dict[str, float], *, kills: int, seed: int, boards: int,
    stages: Sequence[str], work: Path,
) -> dict[str, Any]:  # fmt: skip
    """Make boards like an unbroken one under kills; return what the page shows.

    Args:
        unbroken: The finished board all others must equal.
        cpu_s: Stage -> processor seconds of one of its processes.
        kills: How many in all; those that a short stage escaped are made up for on more boards.
        seed: Of stages, kinds and moments.
        boards: How many share the kills.
        stages: Whose processes are victims, in turn.
        work: Folder of the boards.
    """
    rng = random.Random(seed)
    hows = HOWS * (kills // len(HOWS) + 1)
    rng.shuffle(hows)
    soak = Soak(rng, cpu_s, Counter(), hows)
    plan = [stages[i % len(stages)] for i in range(kills)]
    rng.shuffle(plan)
    left, done = Counter[str](), 0
    while len(soak.kills) < kills and done < boards + 10:
        soak.pending.update(plan[done::boards] if done < boards else [])
        board = Board(work / f"board{done}", unbroken.token, seeds=unbroken.seeds)
        soak.finish(board)
        soak.wrong += [f"{board.folder.name}: {text}" for text in differences(board, unbroken)]
        processes, locks, half = left_over(board)
        left.update(processes_left=processes, locks_left=locks, half_files=len(half))
        soak.problems += [f"{board.folder.name}: half file {name}" for name in half]
        done += 1
        print(f"{board.folder.name}: {board.launches} launches, {len(soak.wrong)} differences")
    return _summary(soak, seed=seed, boards=done, left=left)


def _summary(soak: Soak, *, seed: int, boards: int, left: Counter[str]) -> dict[str, Any]:
    names = ("SIGKILL", "SIGTERM", "SIGINT", "step", "all", "snakemake", "launcher")
    table = {}
    for stage in STAGES:
        mine = [kill for kill in soak.kills if kill["stage"] == stage]
        if mine:
            hits = Counter(value for k in mine for value in (k["signal"], k["target"]))
            table[stage] = {"kills": len(mine), **{name: hits[name] for name in names}}
    resumed = [k["checkpoint"] for k in soak.kills if k["checkpoint"] is not None]
    facts = {
        "kills": len(soak.kills), "seed": seed, "boards": boards, "launches": soak.launches,
        "refused": soak.refused, "orphans": soak.orphans,
        "trainings_killed": sum(k["stage"] == "train" for k in soak.kills),
        "resumed_from": sorted(resumed), "differences": len(soak.wrong),
        "processes_left": left["processes_left"], "locks_left": left["locks_left"],
        "half_files": left["half_files"], "hardware": _hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "commit": _commit(),
    }  # fmt: skip
    return {"facts": facts, "stages": table, "problems": soak.wrong + soak.problems}


def _hardware() -> str:
    from segbench.core.provenance import hardware

    facts = hardware()
    return f"{facts['cores']} cores ({facts['cpu']})"


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


def _print(result: dict[str, Any]) -> None:
    stages = result["stages"]
    keys = list(next(iter(stages.values())))
    print(f"{'stage':10}" + "".join(f"{key:>10}" for key in keys))
    for stage, row in stages.items():
        print(f"{stage:10}" + "".join(f"{row[key]:10}" for key in keys))
    for name, value in result["facts"].items():
        print(f"{name}: {value}")
    for problem in result["problems"]:
        print(f"PROBLEM {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--boards", type=int, default=3, help="boards to share the kills")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--work", type=Path, help="keep the boards there")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="soak"))
    begin = time.monotonic()
    unbroken = Board(work / "unbroken", f"{os.getpid()}-{time.time_ns()}")
    cpu_s = measure(unbroken)
    print("processor seconds: " + ", ".join(f"{k} {v:.1f}" for k, v in cpu_s.items()), flush=True)
    result = kill_boards(
        unbroken, cpu_s, kills=options.kills, seed=options.seed, boards=options.boards,
        stages=options.stages, work=work,
    )  # fmt: skip
    result["facts"]["minutes"] = round((time.monotonic() - begin) / 60, 1)
    _print(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if not options.work:
        shutil.rmtree(work)
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
