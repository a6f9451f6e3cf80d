"""A private copy of the workflow that is launched on a throw-away cluster."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gates import Gate, wait_until
from tests.gates import environment as gates_environment
from tests.slurm.mini_cluster import MiniCluster

ROOT = Path(__file__).resolve().parents[2]
BOARD = Path(__file__).parent / "board"
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10", "--jobs", "4"]


@dataclass
class Launch:
    """One run of Snakemake: exit code and all it printed."""

    process: subprocess.Popen[bytes]
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
            "OMP_NUM_THREADS": "1",
        }

    def gate(self, experiment: str, iterations: int) -> Gate:
        """Return a gate that holds the training of an experiment after so many iterations."""
        folder, words = self.folder.parent / f"gate-{experiment}", ["train", f"/{experiment}.yaml"]
        return Gate(folder, "segbench.training.loop:_advance", calls=iterations, words=words)

    @contextmanager
    def launched(self, *options: str, gates: Sequence[Gate] = ()) -> Iterator[Launch]:
        """Run ``snakemake --profile slurm`` here while the block does something to it."""
        command = [sys.executable, "-m", "snakemake", "--profile", "slurm", *QUICK, *options]
        log = self.folder / "launch.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=stream, stderr=stream,
                env=gates_environment(*gates, base=self.environment()),
            )  # fmt: skip
        launch = Launch(process)
        try:
            yield launch
            launch.code = process.wait()
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
        command = [sys.executable, "-m", "segbench", *arguments]
        subprocess.run(
            command, cwd=self.folder, env=self.environment(), check=True, capture_output=True
        )

    def log(self, rule: str, *parts: str) -> str:
        """Return the last log of one job."""
        return (self.folder / "results/logs").joinpath(rule, *parts).read_text(errors="replace")

    def run(self, experiment: str) -> Path:
        return self.folder / "results" / "digit_scenes" / experiment / "seed0"

    def weights(self, folder: Path) -> str:
        return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()

    def job(self, experiment: str) -> tuple[str, str]:
        """Return (job id, node) of the running training of an experiment."""
        (job,) = self.cluster.jobs(f"train_wildcards_digit_scenes_{experiment}")
        return job

    def freeze_node(self, job: tuple[str, str], trainer: int) -> None:
        """Lose the node of a job: its daemon is gone, its trainer stops but is not dead."""
        os.kill(trainer, signal.SIGSTOP)
        self.cluster.kill_node(job[1])

    def thaw(self, trainer: int) -> None:
        """Let a frozen trainer go on, and wait until it has ended."""
        os.kill(trainer, signal.SIGCONT)
        wait_until_gone(trainer)


def wait_until_gone(pid: int) -> None:
    """Wait until a process of a job has ended."""
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"the end of process {pid}")
