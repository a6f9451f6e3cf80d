"""One launch writes into a results folder: the next one is told which, a dead one holds up none."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from segbench.core.errors import DataError, LeaseHeld
from segbench.workflow.launch import launch_finding, own
from tests.workflow.launches import Board

COMMAND = "snakemake --cores 2 and more"
spawn = multiprocessing.get_context("spawn")


def own_and_die(results: Path) -> None:
    with own(results, COMMAND):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.fault(10)
def test_second_launch_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    elsewhere = tmp_path / "another working directory"
    elsewhere.mkdir()
    board.results.mkdir()
    with own(board.results, COMMAND):
        for how, folder in (("run", board.folder), ("snakemake", elsewhere)):
            done = subprocess.run(
                board.command(how), cwd=folder, env=board.environment, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            assert done.returncode == 3, done.stdout
            who = f"{board.results} is in use by process {os.getpid()} on {socket.gethostname()}"
            assert f"error: {who}, since 20" in done.stdout
            assert COMMAND in done.stdout
            assert "Traceback" not in done.stdout
        assert board.call(*board.segbench("run", "--dry-run")).returncode == 0
        refused = board.call(*board.segbench("redo", "digit_scenes/fcn_tiny", "--yes"))
        assert refused.returncode == 3, refused.stdout
        doctor = board.call("doctor", "--results", str(board.results), "--json")
        assert f"is in use by process {os.getpid()}" in doctor.stdout


@pytest.mark.fault(10)
def test_dead_launch_is_recognised_and_followed(tmp_path: Path) -> None:
    child = spawn.Process(target=own_and_die, args=(tmp_path,))
    child.start()
    child.join()
    finding = launch_finding(tmp_path)
    assert finding["status"] == "note"
    assert f"the last one was killed (process {child.pid} on" in finding["detail"]
    with own(tmp_path, COMMAND):
        assert "is in use by" in launch_finding(tmp_path)["detail"]
    assert launch_finding(tmp_path)["status"] == "ok"


@pytest.mark.fault(10)
def test_one_of_two_gets_the_folder(tmp_path: Path) -> None:
    second = own(tmp_path / "a", "another")
    with own(tmp_path / "a", COMMAND), own(tmp_path / "b", COMMAND), pytest.raises(LeaseHeld) as no:
        second.__enter__()
    assert re.search(r"a is in use by process \d+ on .*, since 20.*cores 2", str(no.value))
    with own(tmp_path / "a", "another"):
        pass


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write into .*file/results"):
        own(tmp_path / "file" / "results", COMMAND).__enter__()
