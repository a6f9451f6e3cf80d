"""A throw-away Slurm of several logical nodes on one machine.

Everything lives in one folder: configuration, munge key and socket, state, logs, null devices
that stand for GPUs. Nothing outside it is read or changed, no systemd, cgroups or database.

    with MiniCluster(folder) as cluster:
        subprocess.run(["snakemake", "--profile", "slurm"], env=cluster.environment())

By hand, for trying the cluster path on a laptop:

    python tests/slurm/mini_cluster.py snakemake --profile slurm
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.slurm.cluster_files import make_devices, write_configuration, write_srun

PACKAGES = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "srun": "slurm-wlm",
    "munged": "munge",
}


def missing_packages() -> list[str]:
    """Return the system packages without which no cluster can start."""
    return sorted({package for program, package in PACKAGES.items() if not _program(program)})


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Call ``condition`` until it returns something true; ``TimeoutError`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)


@dataclass
class MiniCluster:
    """One running cluster; a context manager.

    The nodes are called n0, n1, ... and may claim more CPUs and memory than the machine has.
    After ``node_timeout`` seconds a silent node counts as down, after ``min_job_age`` seconds
    a finished job is forgotten.
    """

    folder: Path
    nodes: int = 2
    gpus: int = 1
    cpus: int = 16
    memory_mb: int = 64000
    node_timeout: int = 20
    min_job_age: int = 3600
    has_devices: bool = field(default=False, init=False)
    """False where this user may not make devices: jobs then get no CUDA_VISIBLE_DEVICES."""

    def __enter__(self) -> MiniCluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def config(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def names(self) -> list[str]:
        return [f"n{index}" for index in range(self.nodes)]

    def environment(self) -> dict[str, str]:
        """Return the environment in which sbatch, squeue and Snakemake find this cluster."""
        path = f"{self.folder / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return {**inherited, "SLURM_CONF": str(self.config), "PATH": path}

    def start(self) -> None:
        """Write the configuration, start the daemons and wait until every node is idle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        write_configuration(
            self.folder,
            self.names,
            gpus=self.gpus,
            cpus=self.cpus,
            memory_mb=self.memory_mb,
            node_timeout=self.node_timeout,
            min_job_age=self.min_job_age,
        )
        self.has_devices = make_devices(self.folder, self.gpus)
        write_srun(self.folder / "bin", self.config, _program("srun"))
        self._start_munge()
        self._daemon("slurmctld", "-c", "-f", str(self.config))
        for name in self.names:
            self.start_node(name)
        wait_until(self._all_idle, 300, f"idle nodes; see the logs in {self.folder}")

    def start_node(self, name: str) -> None:
        """Start the daemon of one node."""
        (self.folder / f"spool-{name}").mkdir(exist_ok=True)
        self._daemon("slurmd", "-N", name, "-f", str(self.config))

    def kill_node(self, name: str) -> None:
        """Kill the daemon of a node; its jobs live on, as on a node that lost its network."""
        os.kill(self._pid(f"slurmd-{name}"), signal.SIGKILL)

    def node_state(self, name: str) -> str:
        """Return the state of a node as sinfo prints it, such as ``idle`` or ``down*``."""
        return self.call("sinfo", "-h", "-N", "-n", name, "-o", "%T").strip()

    def jobs(self, rule: str, states: str = "RUNNING") -> list[tuple[str, str]]:
        """Return (job id, node) of the jobs of one Snakemake rule in the named states."""
        lines = self.call("squeue", "-h", "-t", states, "-o", "%i|%N|%k").splitlines()
        rows = [line.split("|", 2) for line in lines]
        return [(job, node) for job, node, comment in rows if comment.startswith(f"rule_{rule}")]

    def call(self, *command: str) -> str:
        """Run a Slurm command against this cluster and return what it printed."""
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=True
        )
        return done.stdout

    def stop(self) -> None:
        """End every process that carries this cluster's configuration, daemons first."""
        for name in ["slurmctld", *(f"slurmd-{name}" for name in self.names), "munged"]:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self._pid(name), signal.SIGTERM)
        for _ in range(600):
            pids = self._processes()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids:
                return
            time.sleep(0.1)

    def _processes(self) -> list[int]:
        """Return the live processes with our SLURM_CONF in their environment, except this one."""
        mark = f"SLURM_CONF={self.config}\0".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return found

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        self._daemon(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder / 'munge.socket'}",
            f"--pid-file={self.folder / 'munged.pid'}",
            f"--log-file={self.folder / 'munged.log'}",
            f"--seed-file={self.folder / 'munge.seed'}",
        )

    def _daemon(self, program: str, *arguments: str) -> None:
        command = [_program(program), *arguments]
        with (self.folder / "daemons.log").open("ab") as log:
            subprocess.run(
                command,
                env=self.environment(),
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=300,
            )

    def _all_idle(self) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return all(self.node_state(name) == "idle" for name in self.names)
        return False

    def _pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())


def _program(name: str) -> str:
    """Return the path of a program, or an empty string; daemons are often not on PATH."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(name, path=path) or ""


def main(command: list[str]) -> int:
    """Run a command in a cluster that lives as long as the command."""
    if missing := missing_packages():
        sys.stderr.write(f"missing system packages: {' '.join(missing)}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        tempfile.TemporaryDirectory(prefix="segbench-slurm-") as folder,
        MiniCluster(Path(folder)) as cluster,
    ):
        sys.stderr.write(cluster.call("sinfo", "-N", "-o", "%N %T %c CPUs %m MB %G") + "\n")
        return subprocess.run(command, env=cluster.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")]))
