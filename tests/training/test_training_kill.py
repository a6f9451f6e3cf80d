"""Trainers killed at any instant finish with the weights of an unbroken run, bit for bit."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from segbench.core.errors import EXIT_REQUEUE
from segbench.core.files import read_json, read_jsonl
from segbench.formats.prepared import PreparedDataset
from segbench.training.checkpoint import newest_checkpoint
from segbench.training.loop import train
from tests.gates import Gate
from tests.training import training_children, training_toys

LONG = {"iterations": 200, "checkpoint_interval": 7}
MOMENTS = [
    ("segbench.training.loop:_advance", 50),
    ("segbench.training.loop:set_learning_rate", 50),
    ("segbench.training.log:TrainLog.see", 50),
    ("segbench.training.loop:RunState.save", 7),
    ("segbench.training.state:save_checkpoint", 7),
    ("segbench.training.checkpoint:write_text", 7),
    ("segbench.training.checkpoint:_sync_folder", 7),
    ("segbench.training.checkpoint:_remove", 5),
]
"""Functions of a training, and how many calls of them a third of one makes at least."""


def run_here(dataset: PreparedDataset, run: Path, **changes: Any) -> bytes:
    recipe = training_toys.recipe(**changes)
    train(recipe, dataset, seed=0, out=run / "out", state=run / "state")
    return (run / "out" / "weights.safetensors").read_bytes()


def without_times(path: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k not in ("time_s", "images_per_second")}
        for row in read_jsonl(path)
    ]


def checkpoints(run: Path) -> set[str]:
    return {path.name for path in (run / "state").glob("checkpoint-*.pt")}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    run = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_MODELS_PATH", str(model_folder))
        dataset = training_toys.write_dataset(run / "data")
        run_here(dataset, run, **LONG)
    return run


@pytest.mark.fault(1)
def test_kill_9_at_random_moments(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, run, killed_at = random.Random(), tmp_path / "run", []
    for number in range(3):
        moment, most = rng.choice(MOMENTS)
        gate = Gate(tmp_path / f"gate{number}", moment, calls=rng.randrange(most))
        trainer = training_children.start(unbroken / "data", run, gate=gate, **LONG)
        gate.arrival(trainer)
        trainer.kill()
        trainer.join()
        killed_at.append((gate.facts["function"], gate.facts["calls"], checkpoints(run)))
    weights = run_here(PreparedDataset.open(unbroken / "data"), run, **LONG)
    said = capsys.readouterr().err
    assert "is gone; taking over" in said
    assert "waiting:" not in said, "a dead holder on this machine must not be waited for"
    assert weights == (unbroken / "out" / "weights.safetensors").read_bytes(), killed_at
    log = run / "out" / "train_log.jsonl"
    assert without_times(log) == without_times(unbroken / "out" / "train_log.jsonl")
    record = read_json(run / "out" / "recipe.json")
    assert record["attempts"] == 4
    assert record["images_seen"] == 4 * LONG["iterations"]


@pytest.mark.parametrize("number", range(12, 19))
@pytest.mark.fault(2)
def test_kill_during_a_checkpoint_write(toys: PreparedDataset, tmp_path: Path, number: int) -> None:
    trainer = training_children.start(toys.root, tmp_path, die_at_fsync=number, iterations=20)
    trainer.join()
    assert trainer.exitcode == -signal.SIGKILL
    found = newest_checkpoint(tmp_path / "state")
    assert found is not None
    assert found[1]["iteration"] % 5 == 0
    weights = run_here(toys, tmp_path, iterations=20)
    assert weights == run_here(toys, tmp_path / "other", iterations=20)
    assert not list((tmp_path / "state").glob(".*.tmp"))


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGUSR1, 0)])
@pytest.mark.fault(5)
def test_preemption_saves_and_asks_for_a_requeue(
    unbroken: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """Slurm signals every process of a job: the loader processes get it too."""
    gate = Gate(tmp_path / "gate", "segbench.training.loop:_advance", calls=10)
    options = {**LONG, "checkpoint_interval": 190, "workers": workers}
    trainer = training_children.start(
        unbroken / "data", tmp_path, own_group=True, gate=gate, **options
    )
    os.killpg(gate.arrival(trainer), number)
    trainer.join()
    assert trainer.exitcode == EXIT_REQUEUE
    found = newest_checkpoint(tmp_path / "state")
    assert found is not None
    assert found[1]["iteration"] == 11, "it saves after the iteration that it is in"
    weights = run_here(PreparedDataset.open(unbroken / "data"), tmp_path, **options)
    assert weights == (unbroken / "out" / "weights.safetensors").read_bytes()
