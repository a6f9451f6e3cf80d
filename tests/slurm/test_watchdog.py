"""The watchdog against processes that sleep and a stand-in squeue."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segbench.workflow.watchdog import Limits, Process, jobs_in_queue, stop, watch, works_here

QUICK = Limits(idle=0.6, silent=60, every=0.1)
Queue = Callable[[str], None]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Let squeue run the given shell commands."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def install(body: str) -> None:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "squeue").chmod(0o755)

    return install


@contextmanager
def running(code: str) -> Iterator[Process]:
    """Run Python code in a child that says when it is ready."""
    code = f"import os, signal, subprocess, time\n{code}"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    try:
        process = Process.of(child.pid)
        assert process
        yield process
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


WAITS = "print('ready', flush=True); time.sleep(60)"
IGNORES_ONE = "signal.signal(2, lambda *_: signal.signal(2, signal.SIG_DFL)); " + WAITS
IGNORES_ALL = "signal.signal(2, signal.SIG_IGN); " + WAITS
WORKS = "child = subprocess.Popen(['sleep', '5']); " + WAITS


def test_only_our_unfinished_jobs_count(queue: Queue) -> None:
    queue(
        "printf 'segbench_1|RUNNING\\nsegbench_1|COMPLETED\\nother|RUNNING\\nsegbench_2|PENDING\\n'"
    )
    assert jobs_in_queue() == 2
    queue("echo 'segbench_1|PREEMPTED'")
    assert jobs_in_queue() == 0
    queue("exit 1")
    assert jobs_in_queue() is None


@pytest.mark.fault(9)
def test_waiting_for_nothing_is_noticed(queue: Queue) -> None:
    queue("exit 0")
    with running(WAITS) as process:
        reason = watch(process, QUICK)
    assert reason and "lost sight of its jobs" in reason


@pytest.mark.parametrize(
    "answer", ["echo 'segbench_1|RUNNING'", "echo 'segbench_1|PENDING'", "exit 1"]
)
def test_waiting_for_jobs_or_an_answer_is_not(queue: Queue, answer: str) -> None:
    queue(answer)
    with running("print('ready', flush=True); time.sleep(1.5)") as process:
        assert watch(process, QUICK) is None


def test_local_steps_are_work(queue: Queue) -> None:
    queue("exit 0")
    with running(WORKS) as process:
        assert works_here(process.pid)
        code = f"import time; time.sleep(1.5); import os; os.kill({process.pid}, 9)"
        with subprocess.Popen([sys.executable, "-c", code]):
            assert watch(process, QUICK) is None


@pytest.mark.fault(9)
def test_silent_cluster_ends_it_after_a_long_time(queue: Queue) -> None:
    queue("exit 1")
    with running(WAITS) as process:
        reason = watch(process, Limits(idle=60, silent=0.5, every=0.1))
    assert reason and "has not answered" in reason


@pytest.mark.parametrize(
    ("code", "unlocked"), [(WAITS, True), (IGNORES_ONE, True), (IGNORES_ALL, False)]
)
@pytest.mark.fault(9)
def test_stop_ends_also_what_ignores_the_first_interrupt(code: str, unlocked: bool) -> None:
    with running(code) as process:
        assert stop(process, grace_s=0.5) is unlocked
        assert process.ends_within(2)


def test_another_process_of_the_same_id_is_not_taken_for_it() -> None:
    process = Process.of(os.getpid())
    assert process and process.alive()
    assert not Process(os.getpid(), started="0").alive()
    assert Process.of(2**22 + 1) is None


@pytest.mark.fault(9)
def test_command_says_why_and_what_next(queue: Queue) -> None:
    queue("exit 0")
    with running(WAITS) as process:
        options = [str(process.pid), "--idle-minutes", "0.01", "--every-seconds", "0.1"]
        done = subprocess.run(
            [sys.executable, "-m", "segbench.workflow.watchdog", *options],
            capture_output=True, text=True, timeout=60, check=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert not process.alive()
    assert "watchdog: for 0.01 minutes no job" in done.stderr
    assert "launch again" in done.stderr and "--unlock" not in done.stderr
