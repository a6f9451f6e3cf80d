"""A small board in a folder of its own: launched, watched, and compared with another one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    "prepare", "train", "predict", "control", "evaluate", "profile", "overlays",
    "collect", "report",
)  # fmt: skip
CONFIG = """\
results: results
experiments_folder: experiments
datasets: {digit_scenes: {options: {train: 16, val: 4}}}
runs:
  - {dataset: digit_scenes, split: val, controls: [oracle], experiments: [fcn_tiny], seeds: SEEDS}
report: {title: Soak, gallery_images: 2}
"""
SHORT = {"iterations": 24, "warmup_iterations": 2, "checkpoint_interval": 4, "batch_size": 4}
TIMES = {
    "attempts", "created", "images_per_second", "latency_ms", "peak_memory_mb", "scored_at", "seal",
    "time_s", "train_log.jsonl", "wall_time_s", "worst_latency_ms",
}  # fmt: skip
"""Keys of facts that no two runs share; a seal is a digest over all of them, as is
that of a training log."""
NOT_COMPARED = {".launch", "logs", "state", "partial"}
"""Folders of a board that hold how it was made: who wrote, attempts, boards of failed launches."""
HALF = re.compile(r"\.tmp$|\.part$|\.building$|\.old$|\.new$")


@dataclass(frozen=True)
class Process:
    """One process of a launch."""

    pid: int
    parent: int
    arguments: tuple[str, ...]
    cpu_s: float
    """Processor time it has used, without that of its children."""

    @property
    def stage(self) -> str:
        """Name of the segbench command it runs, ``snakemake``, or empty."""
        words = self.arguments
        if len(words) > 2 and words[1] == "-m" and words[2] == "segbench":
            return words[3] if len(words) > 3 else ""
        return "snakemake" if len(words) > 2 and words[1:3] == ("-m", "snakemake") else ""


@dataclass
class Board:
    """A configuration, its recipes and results, and the processes that work on them."""

    folder: Path
    token: str
    """In the environment of every process, so that orphans are found too."""
    seeds: tuple[int, ...] = (0, 1)
    prefix: tuple[str, ...] = ()
    """Command that starts each launch, such as one that cuts off the network."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Set in the environment of each launch."""
    launches: int = 0
    _ours: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipes = self.folder / "experiments" / "digit_scenes"
        recipes.mkdir(parents=True, exist_ok=True)
        text = (ROOT / "workflow/experiments/digit_scenes/fcn_tiny.yaml").read_text()
        for key, value in SHORT.items():
            text = re.sub(rf"^{key}:.*$", f"{key}: {value}", text, flags=re.M)
        (recipes / "fcn_tiny.yaml").write_text(text)
        (self.folder / "board.yaml").write_text(CONFIG.replace("SEEDS", str([*self.seeds])))

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
            "SEGBENCH_SOAK": self.token, **self.variables,
        }  # fmt: skip

    def launch(self) -> subprocess.Popen[bytes]:
        """Start ``segbench run`` as a terminal does, in a process group of its own."""
        self.launches += 1
        command = [*self.prefix, sys.executable, "-m", "segbench", "run"]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [*command, "--config", "board.yaml", "--cores", "2"], cwd=self.folder,
                env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=_heed_interrupts,
            )  # fmt: skip

    @property
    def log(self) -> Path:
        """All that the current launch has printed."""
        return self.folder / f"launch{self.launches}.log"

    def processes(self) -> list[Process]:
        """Return the living processes of this board, orphans included, oldest first."""
        pids = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
        self._ours = {pid: ours for pid, ours in self._ours.items() if pid in pids}
        found = []
        for pid in sorted(pids):
            with suppress(OSError):
                if pid not in self._ours:
                    environment = Path(f"/proc/{pid}/environ").read_bytes()
                    self._ours[pid] = f"SEGBENCH_SOAK={self.token}".encode() in environment
                if self._ours[pid] and (process := _process(pid)):
                    found.append(process)
        return found

    def settle(self, limit_s: float) -> list[Process]:
        """Wait until no process is left; return those that are after the limit."""
        end = time.monotonic() + limit_s
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def checkpoint(self, process: Process) -> int | None:
        """Return the newest checkpoint of a training: its iteration, None where there is none."""
        words = process.arguments
        if "--state" not in words:
            return None
        state = self.folder / words[words.index("--state") + 1]
        found = [int(path.stem.partition("-")[2]) for path in state.rglob("checkpoint-*.pt")]
        return max(found, default=None)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _process(pid: int) -> Process | None:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if stat[0] == "Z":
        return None
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    arguments = tuple(word.decode(errors="replace") for word in words)
    ticks = int(stat[11]) + int(stat[12])
    return Process(pid, int(stat[1]), arguments, ticks / os.sysconf("SC_CLK_TCK"))


def differences(board: Board, unbroken: Board) -> list[str]:
    """Return what two finished boards do not share, times left out; empty where all is equal."""
    found, expected = _files(board.results), _files(unbroken.results)
    wrong = [f"{name}: only in one of the two" for name in sorted(found ^ expected)]
    for name in sorted(found & expected):
        if name.startswith("report/"):  # holds times; see differs_from_a_fresh_site
            continue
        where = _unequal(_content(board.results / name), _content(unbroken.results / name))
        if where is not None:
            wrong.append(f"{name}: differs {where}".rstrip())
    return wrong + differs_from_a_fresh_site(board)


def differs_from_a_fresh_site(board: Board) -> list[str]:
    """Compare a site byte by byte with one that is made of the same table without a break."""
    fresh = board.folder / "fresh_site"
    subprocess.run(
        [sys.executable, "-m", "segbench", "report", "results/table.json", "--out", fresh.name],
        cwd=board.folder, env=board.environment(), check=True, capture_output=True,
    )  # fmt: skip
    site = board.results / "report"
    names = {str(p.relative_to(s)) for s in (site, fresh) for p in s.rglob("*") if p.is_file()}
    unequal = [name for name in names if _bytes(site / name) != _bytes(fresh / name)]
    return [f"report/{name}: differs" for name in sorted(unequal)]


def left_over(board: Board) -> tuple[int, int, list[str]]:
    """Return how many processes and locks are left, and the half files by name."""
    from segbench.workflow.launch import launch_finding

    locks = [*board.folder.glob(".snakemake/locks/*")]
    locks += [] if launch_finding(board.results)["status"] == "ok" else [board.results / ".launch"]
    half = [path for path in board.results.rglob("*") if HALF.search(path.name)]
    half += (board.folder / ".snakemake").glob("incomplete/*")
    return len(board.processes()), len(locks), [str(p.relative_to(board.folder)) for p in half]


def _files(results: Path) -> set[str]:
    """Return the files of a board that must be there and equal."""
    names = (str(p.relative_to(results)) for p in results.rglob("*") if p.is_file())
    return {name for name in names if name.split("/")[0] not in NOT_COMPARED}


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_bytes()))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_bytes().splitlines()]
    return path.read_bytes() if path.name != "table.csv" else list(_csv(path))


def _unequal(one: Any, other: Any) -> str | None:
    """Return the place of the first difference of two values, None where they are equal."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(i), *both) for i, both in enumerate(zip(one, other, strict=True))]
    else:
        short = isinstance(one, str | int | float) and isinstance(other, str | int | float)
        return None if one == other else f": {one}, unbroken {other}" if short else ""
    for key, first, second in pairs:
        if (where := _unequal(first, second)) is not None:
            return f"at {key} {where.removeprefix('at ')}"
    return None


def _csv(path: Path) -> Iterator[list[str]]:
    import csv

    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            yield [value for key, value in row.items() if not _is_time(key)]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if not _is_time(key)}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _is_time(key: str) -> bool:
    return key in TIMES or key.endswith("_s")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
