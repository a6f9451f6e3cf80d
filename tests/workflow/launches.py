"""A tiny board, the three ways to launch it, and what a stopped launch has left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
results: {results}
experiments_folder: {experiments}
datasets: {{digit_scenes: {{options: {{train: 8, val: 4}}}}}}
runs: [{{dataset: digit_scenes, controls: [oracle], experiments: [fcn_tiny]}}]
report: {{gallery_images: 0}}
"""
LIMIT_S = 600
"""Only to fail rather than to hang; nothing is judged by how long it takes."""


class Board:
    """A configuration of one control and one training of a few seconds, in a folder of its own."""

    def __init__(self, folder: Path, *, iterations: int = 40, batch_size: int = 2) -> None:
        self.folder, self.results = folder, folder / "results"
        recipe = (ROOT / "workflow/experiments/digit_scenes/fcn_tiny.yaml").read_text()
        changes = {"iterations": iterations, "warmup_iterations": 2, "checkpoint_interval": 4}
        for key, value in {**changes, "batch_size": batch_size}.items():
            recipe = re.sub(rf"^{key}:.*$", f"{key}: {value}", recipe, flags=re.M)
        experiments = folder / "experiments" / "digit_scenes"
        experiments.mkdir(parents=True)
        (experiments / "fcn_tiny.yaml").write_text(recipe)
        self.config = folder / "board.yaml"
        text = CONFIG.format(results=self.results, experiments=experiments.parent)
        self.config.write_text(text)
        self.row = self.results / "digit_scenes" / "fcn_tiny" / "seed0"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TEST_BOARD": str(self.folder),
        }

    def command(self, how: str) -> list[str]:
        """Return the command of a launch: ``run``, ``make`` or ``snakemake``."""
        if how == "run":
            return [sys.executable, "-m", "segbench", *self.segbench("run", "--cores", "2")]
        if how == "make":
            installed = Path(sys.prefix, ".installed")
            options = [f"VENV={sys.prefix}", f"CONFIG={self.config}", "CORES=2"]
            return ["make", "-f", str(ROOT / "Makefile"), "demo", *options, "-o", str(installed)]
        options = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(self.config)]
        return [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", *options]

    def segbench(self, command: str, *arguments: str) -> list[str]:
        return [command, "--config", str(self.config), *arguments]

    def start(self, how: str) -> Launched:
        return Launched(self, self.command(how))

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a segbench command to its end."""
        command = [sys.executable, "-m", "segbench", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, timeout=LIMIT_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def files(self) -> int:
        """Return how many files the results hold, half ones and logs too."""
        return sum(len(names) for _, _, names in os.walk(self.results))

    def processes(self) -> list[str]:
        """Return the commands of every process of this board, whoever its parent is by now."""
        return [" ".join(process.cmdline()) for process in self._processes()]

    def clear(self) -> None:
        """Kill what a failed test has left."""
        for process in self._processes():
            with suppress(psutil.Error):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TEST_BOARD") == str(self.folder) and process.cmdline():
                    found.append(process)
        return found

    def locks(self) -> list[str]:
        """Return locks of Snakemake and owners that did not sign off."""
        found = [str(path) for path in self.folder.glob(".snakemake/locks/*")]
        for path in self.results.glob(".launch/owner-*.json"):
            owner = json.loads(path.read_text())
            found += [] if owner["released"] else [str(owner)]
        return found

    def halves(self) -> list[str]:
        """Return temporary files, and files under their final name that cannot be read."""
        half = [str(path) for path in self.results.rglob(".*.tmp")]
        for path in self.results.rglob("*.json"):
            try:
                json.loads(path.read_text())
            except ValueError:
                half.append(str(path))
        return half


class Launched:
    """A launch that runs, as the leader of a process group, which is what a terminal signals."""

    def __init__(self, board: Board, command: list[str]) -> None:
        self.board = board
        self.log = board.folder / "launch.log"
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                command, cwd=board.folder, env=board.environment, start_new_session=True,
                stdout=stream, stderr=stream, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something to happen; False when the launch ended before."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.01)
        return True

    def at_random(self, rng: random.Random) -> bool:
        """Wait for a random event: the n-th line printed or the n-th new file in the results."""
        if rng.random() < 0.3:
            lines = rng.randrange(1, 60)
            return self.until(lambda: self.log.read_text().count("\n") >= lines)
        files = self.board.files() + rng.randrange(1, 30)
        return self.until(lambda: self.board.files() >= files)

    def interrupt(self) -> None:
        """Send what a terminal sends on Ctrl-C: SIGINT to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        return self.process.wait(LIMIT_S)
