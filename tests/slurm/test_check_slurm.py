"""`segbench doctor` against Slurms that would make a run hang: stand-in programs on PATH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segbench.workflow.slurm import _states_of_our_jobs, check_slurm, state_of_job

HEALTHY = {
    "sbatch": "exit 0",
    "sinfo": "[ $1 = --version ] && echo slurm 23.02 && exit\n"
    "echo 'long*|up|2-00:00:00|4|gpu:a100:4(S:0)'",
    "scontrol": "echo 'MinJobAge               = 300 sec'\n"
    "echo 'AccountingStorageType   = accounting_storage/slurmdbd'\n"
    "echo 'PreemptMode             = REQUEUE'",
    "squeue": "exit 0",
    "sacct": "exit 0",
}
Programs = Callable[..., None]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Install a healthy Slurm of shell scripts, with the named programs replaced."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def install(**changes: str) -> None:
        for name, body in {**HEALTHY, **changes}.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)

    return install


def profile(tmp_path: Path, text: str = "slurm-status-command: squeue\n") -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def finding(findings: list[dict[str, str]], check: str) -> dict[str, str]:
    return next(row for row in findings if row["check"].startswith(check))


@pytest.mark.fault(31)
def test_no_slurm_is_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (row,) = check_slurm(profile(tmp_path))
    assert row["status"] == "note" and "sbatch" in row["detail"]


def test_healthy_cluster_has_no_problem(tmp_path: Path, programs: Programs) -> None:
    programs()
    findings = check_slurm(profile(tmp_path))
    assert [row for row in findings if row["status"] != "ok"] == []
    assert finding(findings, "slurm partition")["detail"] == "long, longest job 2-00:00:00"


@pytest.mark.fault(9)
def test_controller_that_does_not_answer(tmp_path: Path, programs: Programs) -> None:
    programs(sinfo="echo 'Unable to contact slurm controller' >&2; exit 1")
    (row,) = check_slurm(profile(tmp_path))
    assert row["status"] == "problem" and "Unable to contact" in row["detail"]


def test_clients_without_a_cluster_are_no_problem(tmp_path: Path, programs: Programs) -> None:
    programs(sinfo="echo 'sinfo: fatal: Could not establish a configuration source' >&2; exit 1")
    (row,) = check_slurm(profile(tmp_path))
    assert row["status"] == "note"


@pytest.mark.parametrize(
    ("age", "status"), [("60 sec", "problem"), ("239", "problem"), ("240", "ok"), ("5 min", "ok")]
)
def test_forgotten_jobs(tmp_path: Path, programs: Programs, age: str, status: str) -> None:
    programs(
        scontrol=f"echo 'MinJobAge = {age}'; echo 'AccountingStorageType = accounting_storage/x'"
    )
    row = finding(check_slurm(profile(tmp_path)), "slurm status")
    assert row["status"] == status
    assert status == "ok" or "slurm-status-command: sacct" in row["detail"]


def test_accounting_that_is_off(tmp_path: Path, programs: Programs) -> None:
    programs(
        sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1",
        scontrol="echo 'MinJobAge = 300 sec'\necho 'AccountingStorageType = storage/none'",
    )
    row = finding(check_slurm(profile(tmp_path, "jobs: 5\n")), "slurm status (sacct)")
    assert row["status"] == "problem"
    assert "disabled" in row["detail"] and "slurm-status-command: squeue" in row["detail"]


def test_partitions(tmp_path: Path, programs: Programs) -> None:
    programs(sinfo="echo 'short|up|1:00:00|4|(null)'")
    row = finding(check_slurm(profile(tmp_path)), "slurm partition")
    assert row["status"] == "problem" and "short" in row["detail"]
    wanted = profile(tmp_path, "default-resources:\n  slurm_partition: shrot\n")
    assert "Did you mean 'short'?" in finding(check_slurm(wanted), "slurm partition")["detail"]
    assert finding(check_slurm(wanted), "slurm gpu")["status"] == "note"


def test_preemption_that_cancels(tmp_path: Path, programs: Programs) -> None:
    programs(scontrol="echo 'PreemptMode = GANG,CANCEL'; echo 'MinJobAge = 300 sec'")
    assert finding(check_slurm(profile(tmp_path)), "slurm preemption")["status"] == "note"


def test_jobs_of_an_earlier_run(tmp_path: Path, programs: Programs) -> None:
    programs(squeue="case \"$*\" in *--me*) echo '7|segbench_1f'; echo '8|other';; esac")
    row = finding(check_slurm(profile(tmp_path)), "slurm jobs")
    assert row["status"] == "note" and row["detail"].endswith("scancel 7")


def test_states_of_our_jobs(programs: Programs) -> None:
    """Accounting remembers what the controller has forgotten; jobs of others are not ours."""
    programs(
        sacct="echo '7|segbench_1f|TIMEOUT'; echo '8|segbench_1f|CANCELLED by 0'; "
        "echo '9|other|FAILED'; echo '10|segbench_1f|PENDING'",
        squeue="echo '10|segbench_1f|RUNNING'",
    )
    _states_of_our_jobs.cache_clear()
    states = [state_of_job(number) for number in ("7", "8", "9", "10", "11")]
    assert states == ["TIMEOUT", "CANCELLED", "", "RUNNING", ""]
    _states_of_our_jobs.cache_clear()
