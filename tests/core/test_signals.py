"""What a command does when it is asked to end, and when its parent is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from segbench.core.processes import PARENT, kill_below
from segbench.core.stopping import ONE_KEYSTROKE_S

COMMAND = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.{sigint})
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
from pathlib import Path
import segbench.cli
def work(**_):
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        {clean}
        Path(sys.argv[1]).write_text("cleaned")
segbench.cli.cli.main = work
segbench.cli.main()
"""
PARENT_CODE = """
import os, subprocess, sys, time
from segbench.core.processes import PARENT, myself
os.environ[PARENT] = myself()
child = subprocess.Popen({command}, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""
HELD = 'print("cleaning", flush=True); sys.stdin.readline()'
STUCK = 'print("cleaning", flush=True); time.sleep(600)'


def start(file: Path, *, sigint: str = "default_int_handler", clean: str = "pass"):
    code = COMMAND.format(sigint=sigint, clean=clean)
    command = [sys.executable, "-c", code, str(file)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    return child


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_cleans_up_and_has_its_exit_code(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with start(tmp_path / "file", clean=HELD) as child:
        assert child.stdout and child.stdin
        child.send_signal(number)
        assert child.stdout.readline() == b"cleaning\n"
        child.send_signal(signal.SIGTERM)  # handed on by the process in front: no second request
        child.communicate(b"go on\n", timeout=60)
        assert child.returncode == code
    assert (tmp_path / "file").read_text() == "cleaned"


@pytest.mark.fault(32)
def test_a_second_ctrl_c_does_not_wait_for_the_clean_up(tmp_path: Path) -> None:
    with start(tmp_path / "file", clean=STUCK) as child:
        child.send_signal(signal.SIGINT)
        assert child.stdout and child.stdout.readline() == b"cleaning\n"
        time.sleep(2 * ONE_KEYSTROKE_S)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    assert not (tmp_path / "file").exists()


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    with start(tmp_path / "file", sigint="SIG_IGN") as child:
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 143


@pytest.mark.fault(32)
@pytest.mark.parametrize("through_a_shell", [False, True])
def test_a_job_ends_with_the_launch_that_started_it(tmp_path: Path, through_a_shell: bool) -> None:
    code = COMMAND.format(sigint="default_int_handler", clean="pass")
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    if through_a_shell:
        command = ["sh", "-c", '"$@"; true', "sh", *command]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT_CODE.format(command=command)], stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(60)
    end = time.monotonic() + 60
    while not (tmp_path / "file").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_job_of_another_host_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT, f"another|{2**22 + 1}|0")
    with start(tmp_path / "file") as child:
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130, "it took a process of another host for one of this"


def test_a_whole_tree_is_killed(tmp_path: Path) -> None:
    nested = "sh -c 'sleep 600 & sleep 600 & echo ready; wait' & wait"
    with subprocess.Popen(["sh", "-c", nested], stdout=subprocess.PIPE) as top:
        assert top.stdout and top.stdout.readline() == b"ready\n"
        below = psutil.Process(top.pid).children(recursive=True)
        assert len(below) == 3
        kill_below(psutil.Process(top.pid))
        psutil.wait_procs(below, timeout=60)
        assert not [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        top.kill()
