"""Launches stopped at random moments leave no process, no lock, no half file, and go on.

``SEGBENCH_STOPS=10`` stops each kind of launch ten times with each signal; without it three
are stopped once. ``SEGBENCH_STOPS_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from segbench.core.stopping import ONE_KEYSTROKE_S
from tests.workflow.launches import Board, Launched

STOPS = int(os.environ.get("SEGBENCH_STOPS", "0"))
SEED = int(os.environ.get("SEGBENCH_STOPS_SEED", "0"))
SIGNALS = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}
LAUNCHES = [(how, name) for how in ("run", "make", "snakemake") for name in SIGNALS]
FEW = [("run", "ctrl-c"), ("make", "ctrl-c"), ("snakemake", "sigterm")]
ENDLESS = 10**6
IGNORED = re.compile(r"^Exception ignored in: .*\nTraceback", re.MULTILINE)
"""What Python says of an event loop of Snakemake's that a signal met while it was being made."""
pytestmark = pytest.mark.slow


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Callable[..., Board]]:
    """Make boards of which nothing runs on after the test, however it ends."""
    made: list[Board] = []

    def make(**changes: int) -> Board:
        made.append(Board(tmp_path / "board", **changes))
        return made[-1]

    yield make
    for board in made:
        board.clear()


@pytest.mark.fault(32)
@pytest.mark.parametrize(("how", "name"), LAUNCHES if STOPS else FEW)
def test_stopped_at_random(how: str, name: str, boards: Callable[..., Board]) -> None:
    if how == "make" and not (shutil.which("make") and Path(sys.prefix, "bin/segbench").exists()):
        pytest.skip("needs make, and segbench installed beside this Python")
    board, rng, stopped = boards(), random.Random(f"{how} {name} {SEED}"), 0
    while stopped < max(STOPS, 1):
        launched = board.start(how)
        if not launched.at_random(rng):
            assert launched.end() == 0, launched.log.read_text()[-3000:]
            shutil.rmtree(board.results)
            continue
        code = stop(launched, SIGNALS[name])
        stopped += 1
        nothing_left(board, launched)
        if how == "run":
            assert code in (128 + SIGNALS[name], -SIGNALS[name], 0), launched.log.read_text()
    if STOPS:
        last = board.start(how)
        assert last.end() == 0, last.log.read_text()[-3000:]


@pytest.mark.fault(32)
def test_second_ctrl_c_ends_at_once(boards: Callable[..., Board]) -> None:
    board = boards(iterations=ENDLESS)
    launched = board.start("run")
    trainer = training(board, launched)
    trainer.suspend()  # it cannot answer the first one
    launched.interrupt()
    assert launched.until(lambda: "stopping; trainings save" in launched.log.read_text())
    time.sleep(2 * ONE_KEYSTROKE_S)
    launched.interrupt()
    assert launched.end() == 130
    nothing_left(board, launched)
    assert "stopping at once" in launched.log.read_text()


@pytest.mark.fault(7)
@pytest.mark.fault(32)
@pytest.mark.parametrize("how", ["run", "snakemake"])
def test_nothing_outlives_a_killed_launch(how: str, boards: Callable[..., Board]) -> None:
    board = boards(iterations=ENDLESS)
    launched = board.start(how)
    training(board, launched)
    launched.process.kill()
    launched.end()
    end = time.monotonic() + 300
    while board.processes():
        assert time.monotonic() < end, board.processes()
        time.sleep(0.05)
    assert board.halves() == []
    log = board.results / "logs/train/digit_scenes/fcn_tiny/seed0.log"
    assert "SIGTERM: saved at iteration" in log.read_text()


def training(board: Board, launched: Launched) -> psutil.Process:
    """Wait for the first checkpoint of the launch and return the trainer."""
    assert launched.until(lambda: any(board.results.glob("state/*/*/*/*/checkpoint-*.pt")))
    below = psutil.Process(launched.process.pid).children(recursive=True)
    return next(p for p in below if "train" in p.cmdline())


def stop(launched: Launched, number: signal.Signals) -> int:
    if number == signal.SIGINT:
        launched.interrupt()
    else:
        launched.process.terminate()
    return launched.end()


def nothing_left(board: Board, launched: Launched) -> None:
    printed = launched.log.read_text()
    assert board.processes() == [], printed[-3000:]
    assert board.locks() == [], printed[-3000:]
    assert board.halves() == [], printed[-3000:]
    assert "Traceback" not in IGNORED.sub("", printed), printed[-6000:]
