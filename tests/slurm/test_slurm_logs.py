"""What Slurm wrote into the logs of jobs decides the memory of the next attempt."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from segbench.workflow.slurm import keeps_accounting
from segbench.workflow.slurm_logs import memory_mb

ROOT = Path(__file__).parents[2]
MEMORY = "slurmstepd: error: Step 1.0 exceeded memory limit (5 > 4), being killed"
CANCELLED = "slurmstepd: error: *** JOB 1 ON n0 CANCELLED AT 2026-01-01T00:00:00{} ***"
TIME, PREEMPTED, NODE = (
    CANCELLED.format(f" DUE TO {why}") for why in ("TIME LIMIT", "PREEMPTION", "NODE FAILURE")
)
NAMES = ("digit_scenes", "fcn_tiny", "0", "val")
FAILED = "srun: error: n0: task 0: Exited with exit code 1"


def log(folder: Path, number: int, asked: int, said: str, rule: str = "predict") -> None:
    file = folder / f"rule_{rule}" / "digit_scenes_fcn_tiny_0_val" / f"{number}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"rule {rule}:\n    resources: mem_mb={asked}, runtime=60\n\n{said}\n")
    os.utime(file, (number, number))


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], 4000),
        ([(4000, FAILED)], 4000),
        ([(4000, TIME), (4000, PREEMPTED)], 4000),
        ([(4000, NODE), (4000, CANCELLED.format(""))], 4000),
        ([(4000, MEMORY)], 8000),
        ([(4000, MEMORY + "\n" + CANCELLED.format(""))], 8000),
        ([(4000, TIME), (4000, MEMORY), (8000, PREEMPTED)], 8000),
        ([(4000, MEMORY), (8000, MEMORY)], 12000),
        ([(4000, MEMORY), (8000, MEMORY), (12000, MEMORY)], 12000),
        ([(64000, MEMORY)], 12000),
        ([(4000, MEMORY), (8000, "")], 8000),
    ],
)
def test_memory_rises_after_too_little_memory_only(
    tmp_path: Path, attempts: list[tuple[int, str]], expected: int
) -> None:
    log(tmp_path, 99, 4000, MEMORY, rule="train")
    for number, (asked, said) in enumerate(attempts):
        log(tmp_path, number + 8, asked, said)
    assert memory_mb(4000, tmp_path, "predict", NAMES) == expected


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def install(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.fault(9)
def test_sacct_of_a_cluster_without_accounting_is_answered_by_squeue(programs: Path) -> None:
    """The executor's own question, and the one it asks for the reason of a failed job."""
    from snakemake_executor_plugin_slurm.job_status_query import query_job_status_sacct

    install(programs, "squeue", 'echo "$@"')
    folder = ROOT / "workflow" / "no_accounting"
    question = query_job_status_sacct("segbench_1f").split()
    done = subprocess.run(
        [folder / question[0], *question[1:]], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "--noheader", "--states=all", "--format=%i|%T", "--name", "segbench_1f",
    ]  # fmt: skip
    reason = [folder / "sacct", "-j", "12.0", "--format=Reason", "--noheader"]
    assert subprocess.run(reason, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo 'AccountingStorageType = accounting_storage/none'", False),
        ("echo 'AccountingStorageType = accounting_storage/slurmdbd'", True),
        ("echo 'AccountingStorageType = (null)'", False),
        ("exit 1", True),
    ],
)
def test_accounting(programs: Path, answer: str, expected: bool) -> None:
    install(programs, "scontrol", answer)
    assert keeps_accounting() is expected
