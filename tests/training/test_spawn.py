"""Several processes for one training: one exit code, time to save, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.formats.prepared import PreparedDataset
from segbench.training.spawn import spawn
from tests.gates import Gate, environment, wait_until

ROOT = Path(__file__).parents[2]
SLEEPS = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEPS}"
KILLS_ITSELF = "import os; os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("exit(0)", "exit(0)", 0),
        ("exit(75)", "exit(75)", 75),
        ("exit(75)", "exit(1)", 1),
        ("exit(1)", "exit(75)", 1),
        ("exit(0)", "exit(3)", 3),
        ("exit(3)", SLEEPS, 3),
        (SLEEPS, "exit(3)", 3),
        ("exit(2)", DEAF, 2),
        (KILLS_ITSELF, SLEEPS, 137),
    ],
)
def test_one_exit_code(first: str, second: str, code: int) -> None:
    choose = f"import os; exec({first!r} if os.environ['RANK'] == '0' else {second!r})"
    assert spawn(2, [sys.executable, "-c", choose], failed_s=0.5) == code


def test_one_that_never_ends_after_a_save_is_killed() -> None:
    choose = f"import os; exec('exit(75)' if os.environ['RANK'] == '0' else {DEAF!r})"
    assert spawn(2, [sys.executable, "-c", choose], saving_s=0.5) == 137


def test_a_killed_process_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    spawn(1, [sys.executable, "-c", KILLS_ITSELF])
    assert capfd.readouterr().err == "error: process 1 of 1 was killed by SIGKILL\n"


TRAINER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.training import training_toys
from segbench.formats.prepared import PreparedDataset
from segbench.training.loop import train
recipe, run = training_toys.recipe(iterations=12, checkpoint_interval=100), Path(sys.argv[3])
dataset = PreparedDataset.open(Path(sys.argv[2]))
train(recipe, dataset, seed=0, out=run / "out", state=run / "state", device="cpu")
"""
SPAWN = "import sys; from segbench.training.spawn import spawn; sys.exit(spawn(2, sys.argv[1:]))"


def command(tmp_path: Path, toys: PreparedDataset, run: str) -> list[str]:
    trainer = [sys.executable, "-c", TRAINER, str(ROOT), str(toys.root)]
    return [sys.executable, "-c", SPAWN, *trainer, str(tmp_path / run)]


def weights(tmp_path: Path, run: str) -> bytes:
    return (tmp_path / run / "out" / "weights.safetensors").read_bytes()


@pytest.mark.fault(5)
@pytest.mark.parametrize("ended_by", ["signal", "death of the parent"])
def test_a_training_saves_and_asks_for_another_start(
    tmp_path: Path, toys: PreparedDataset, ended_by: str
) -> None:
    base = {**os.environ, "PYTHONPATH": str(ROOT)}
    gate = Gate(tmp_path / "gate", "segbench.training.loop:_advance", calls=5)
    with (tmp_path / "log").open("wb") as log:
        held = environment(gate, base=base)
        launcher = subprocess.Popen(command(tmp_path, toys, "broken"), env=held, stderr=log)
        trainers = [gate.arrival(launcher), gate.arrival(launcher)]
        if ended_by == "signal":
            launcher.send_signal(signal.SIGTERM)
            wait_until(lambda: all(_has_taken_the_signal(pid) for pid in trainers), "the signal")
            gate.open()
            assert launcher.wait(timeout=600) == 75
        else:
            launcher.kill()
            launcher.wait()
            gate.open()
    wait_until(lambda: not any(map(_lives, trainers)), "the end of the trainers")
    assert "SIGTERM: saved at iteration 6, exit 75" in (tmp_path / "log").read_text()
    assert not (tmp_path / "broken/out/weights.safetensors").exists()
    if ended_by != "signal":
        return
    subprocess.run(command(tmp_path, toys, "unbroken"), env=base, check=True, capture_output=True)
    done = subprocess.run(
        command(tmp_path, toys, "broken"), env=base, check=True, capture_output=True, text=True
    )
    assert "at iteration 6" in done.stderr
    assert weights(tmp_path, "broken") == weights(tmp_path, "unbroken")


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _has_taken_the_signal(pid: int) -> bool:
    """No SIGTERM is pending: the held process has run its handler."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = [line.split()[1] for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    return not any(int(mask, 16) & 1 << (signal.SIGTERM - 1) for mask in pending)
