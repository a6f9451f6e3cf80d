"""Trainers killed at any instant finish with the weights of an unbroken run, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import training_children
import training_toys

from segbench.checkpoint import newest_checkpoint
from segbench.errors import EXIT_REQUEUE
from segbench.formats import read_json, read_jsonl
from segbench.prepared import PreparedDataset
from segbench.training import train

LONG = {"iterations": 400, "checkpoint_interval": 7}


def run_here(dataset: PreparedDataset, run: Path, **changes: Any) -> bytes:
    recipe = training_toys.recipe(**changes)
    train(recipe, dataset, seed=0, out=run / "out", state=run / "state")
    return (run / "out" / "weights.safetensors").read_bytes()


def without_times(path: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k not in ("time_s", "images_per_second")}
        for row in read_jsonl(path)
    ]


def wait_for(condition: Callable[[], bool], *, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


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
def test_kill_9_at_random_moments(unbroken: Path, tmp_path: Path) -> None:
    rng, run, killed_at = random.Random(), tmp_path / "run", []
    for _ in range(3):
        before = checkpoints(run)
        trainer = training_children.start(unbroken / "data", run, **LONG)
        wait_for(lambda before=before: checkpoints(run) != before)
        time.sleep(rng.uniform(0, 0.25))
        trainer.kill()
        trainer.join()
        assert trainer.exitcode == -signal.SIGKILL, "it finished before it could be killed"
        killed_at.append(max(checkpoints(run)))
    begin = time.monotonic()
    weights = run_here(PreparedDataset.open(unbroken / "data"), run, **LONG)
    assert time.monotonic() - begin < 25, "a dead holder on this machine must not be waited for"
    assert weights == (unbroken / "out" / "weights.safetensors").read_bytes(), killed_at
    log = run / "out" / "train_log.jsonl"
    assert without_times(log) == without_times(unbroken / "out" / "train_log.jsonl")
    record = read_json(run / "out" / "recipe.json")
    assert record["attempts"] == 4
    assert record["images_seen"] == 1600


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
    options = {**LONG, "checkpoint_interval": 390, "workers": workers}
    trainer = training_children.start(unbroken / "data", tmp_path, own_group=True, **options)
    wait_for(lambda: (tmp_path / "state" / "train_log.jsonl").exists())
    time.sleep(0.1)
    assert trainer.pid is not None
    begin = time.monotonic()
    os.killpg(trainer.pid, number)
    trainer.join()
    assert trainer.exitcode == EXIT_REQUEUE
    assert time.monotonic() - begin < 5
    found = newest_checkpoint(tmp_path / "state")
    assert found is not None
    assert 0 < found[1]["iteration"] < 390
    weights = run_here(PreparedDataset.open(unbroken / "data"), tmp_path, **options)
    assert weights == (unbroken / "out" / "weights.safetensors").read_bytes()
