"""A private copy of the workflow that is launched on a throw-away cluster."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mini_cluster import MiniCluster, wait_until

ROOT = Path(__file__).resolve().parents[2]
BOARD = Path(__file__).parent / "board"
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10", "--jobs", "4"]


@dataclass
class Launch:
    """One run of Snakemake: exit code and all it printed."""

    code: int = -1
    output: str = ""


@dataclass
class Checkout:
    """The sources, the workflow and the link ``slurm``, as a fresh clone has them."""

    folder: Path
    cluster: MiniCluster

    def __post_init__(self) -> None:
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("segbench", "workflow", "envs", "report"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignore)
        for name in ("Snakefile", "slurm"):
            shutil.copy(ROOT / name, self.folder / name, follow_symlinks=False)
        shutil.copytree(BOARD, self.folder, dirs_exist_ok=True)

    def environment(self) -> dict[str, str]:
        return {
            **self.cluster.environment(),
            "PYTHONPATH": str(self.folder),
            "SEGBENCH_MODELS_PATH": str(self.folder / "models"),
            "PATIENT_SECONDS": "0.5",
            "OMP_NUM_THREADS": "1",
        }

    @contextmanager
    def launched(self, *options: str) -> Iterator[Launch]:
        """Run ``snakemake --profile slurm`` here while the block does something to it."""
        command = [sys.executable, "-m", "snakemake", "--profile", "slurm", *QUICK, *options]
        log = self.folder / "launch.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(), stdout=stream, stderr=stream
            )
        launch = Launch()
        try:
            yield launch
            launch.code = process.wait(timeout=600)
        finally:
            process.kill()
            process.wait()
            launch.output = log.read_text(errors="replace")

    def launch(self, *options: str) -> Launch:
        """Run ``snakemake --profile slurm`` here to its end."""
        with self.launched(*options) as launch:
            pass
        return launch

    def segbench(self, *arguments: str) -> None:
        """Run one command of the package here, without the cluster."""
        environment = {**self.environment(), "PATIENT_SECONDS": "0"}
        command = [sys.executable, "-m", "segbench", *arguments]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, capture_output=True)

    def log(self, rule: str, *parts: str) -> str:
        """Return the last log of one job."""
        return (self.folder / "results/logs").joinpath(rule, *parts).read_text(errors="replace")

    def run(self, experiment: str) -> Path:
        return self.folder / "results" / "digit_scenes" / experiment / "seed0"

    def weights(self, folder: Path) -> str:
        return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()

    def wait_for_checkpoint(self, experiment: str) -> None:
        """Wait until a training has saved some state, so that it is neither new nor done."""
        folder = self.folder / "results/state/digit_scenes" / experiment
        wait_until(
            lambda: any(folder.rglob("checkpoint-*.pt")), 180, f"a checkpoint of {experiment}"
        )

    def job(self, experiment: str) -> tuple[str, str]:
        """Return (job id, node) of the running training of an experiment."""
        (job,) = self.cluster.jobs(f"train_wildcards_digit_scenes_{experiment}")
        return job

    def trainers(self, experiment: str) -> list[int]:
        """Return the live ``segbench train`` processes of an experiment in this copy."""
        pattern = re.compile(rb"-m\0segbench\0train\0[^\0]*" + experiment.encode())
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                mine = (entry / "cwd").readlink() == self.folder
                if mine and pattern.search((entry / "cmdline").read_bytes()):
                    found.append(int(entry.name))
        return found

    def freeze_node(self, job: tuple[str, str], experiment: str) -> list[int]:
        """Lose the node of a job: its daemon is gone, its trainer stops but is not dead."""
        frozen = self.trainers(experiment)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        self.cluster.kill_node(job[1])
        return frozen

    def thaw(self, pids: list[int]) -> None:
        """Let frozen trainers go on, and wait until they have ended."""
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60, "their end")
