from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segbench.core.errors import ConfigError, DataError, LeaseLost, TrainingError
from segbench.core.files import read_json, read_jsonl, write_json
from segbench.core.lease import Lease
from segbench.formats.label_maps import write_label_map
from segbench.formats.prepared import PreparedDataset
from segbench.training import loop as training
from segbench.training.data import TrainBatches
from segbench.training.loop import Outcome, train
from segbench.training.optim import learning_rate
from tests.training import training_children, training_toys


def run(dataset: PreparedDataset, folder: Path, **changes: Any) -> Outcome:
    options = {k: changes.pop(k) for k in ("code", "stop_after", "seed") if k in changes}
    options.setdefault("seed", 0)
    recipe = training_toys.recipe(**changes)
    return train(recipe, dataset, out=folder / "out", state=folder / "state", **options)


def weights(folder: Path) -> bytes:
    return (folder / "out" / "weights.safetensors").read_bytes()


def test_outputs_and_a_loss_that_falls(toys: PreparedDataset, tmp_path: Path) -> None:
    assert run(toys, tmp_path) == Outcome(True, 40, 1)
    rows = read_jsonl(tmp_path / "out" / "train_log.jsonl")
    assert [row["iteration"] for row in rows] == list(range(1, 41))
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert rows[7]["lr"] == learning_rate(training_toys.recipe(), 7)
    record = read_json(tmp_path / "out" / "recipe.json")
    assert record["recipe"] == training_toys.recipe().model_dump(mode="json")
    assert (record["iterations"], record["attempts"], record["ignored_batches"]) == (40, 1, 0)
    assert not list((tmp_path / "state").glob("checkpoint-*"))


def test_seed_decides_the_weights(toys: PreparedDataset, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(toys, tmp_path / name, seed=seed, iterations=6)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw"},
        {"optimizer": "adam", "schedule": "step", "step_interval": 7},
        {"optimizer": "rmsprop", "bias_lr_factor": 2.0, "bias_weight_decay": False},
        {"channels_last": True},
    ],
)
@pytest.mark.fault(1)
def test_resume_in_pieces(toys: PreparedDataset, tmp_path: Path, changes: dict[str, Any]) -> None:
    run(toys, tmp_path / "whole", **changes)
    for stop in (1, 13, 39):
        assert run(toys, tmp_path / "pieces", stop_after=stop, **changes).finished is False
        assert not (tmp_path / "pieces" / "out" / "weights.safetensors").exists()
    run(toys, tmp_path / "pieces", **changes)
    assert weights(tmp_path / "whole") == weights(tmp_path / "pieces")


def test_loader_processes_do_not_change_the_weights(toys: PreparedDataset, tmp_path: Path) -> None:
    for workers in (0, 2):
        run(toys, tmp_path / str(workers), workers=workers, iterations=5)
    assert weights(tmp_path / "0") == weights(tmp_path / "2")


def test_bf16_on_a_cpu_when_asked(toys: PreparedDataset, tmp_path: Path) -> None:
    run(toys, tmp_path, precision="bf16", iterations=6)
    assert read_json(tmp_path / "out" / "recipe.json")["precision"] == "bfloat16"


@pytest.mark.fault(19)
def test_diverged_names_iteration_images_and_checkpoint(
    toys: PreparedDataset, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"iteration 8, images .*checkpoint-5\.pt") as error:
        run(toys, tmp_path, model_options={"poison": 7})
    marked = read_json(tmp_path / "state" / "diverged.json")
    assert (marked["iteration"], len(marked["image_ids"])) == (8, 4)
    assert str(marked["image_ids"]) in str(error.value)
    assert not (tmp_path / "out" / "weights.safetensors").exists()


@pytest.mark.fault(19)
def test_exploding_rate_ends_as_diverged(toys: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="diverged"):
        run(toys, tmp_path, base_lr=1e30, clip_grad_norm=None, warmup_iterations=0)


@pytest.mark.fault(19)
def test_ignored_batches_cost_nothing_and_are_counted(
    toys: PreparedDataset, tmp_path: Path
) -> None:
    shutil.copytree(toys.root, tmp_path / "data")
    for path in (tmp_path / "data" / "semantic" / "train").glob("*.png"):
        write_label_map(path, np.full((24, 24), 255, np.uint8))
    run(PreparedDataset.open(tmp_path / "data"), tmp_path, iterations=6)
    assert read_json(tmp_path / "out" / "recipe.json")["ignored_batches"] == 6
    assert {row["loss"] for row in read_jsonl(tmp_path / "out" / "train_log.jsonl")} == {0.0}
    found = load_file(str(tmp_path / "out" / "weights.safetensors"))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())


@pytest.mark.fault(8)
def test_lost_lease_stops_before_the_next_save(
    toys: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steal(recipe: Any, iteration: int) -> float:
        if iteration == 7:
            write_json(tmp_path / "state" / "owner-000009.json", {})
        return learning_rate(recipe, iteration)

    monkeypatch.setattr(training, "learning_rate", steal)
    with pytest.raises(LeaseLost) as error:
        run(toys, tmp_path)
    assert error.value.exit_code == 3
    assert [p.name for p in (tmp_path / "state").glob("*.pt")] == ["checkpoint-5.pt"]
    assert not (tmp_path / "out" / "weights.safetensors").exists()


@pytest.mark.fault(7)
def test_result_of_the_holder_it_waited_for_is_taken(
    toys: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(toys, tmp_path, iterations=6)
    monkeypatch.setattr(Lease, "__enter__", _enter_after_waiting)
    monkeypatch.setattr(training, "start_run", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(training.time, "time", lambda: 0.0)
    assert run(toys, tmp_path, iterations=6).finished


def _enter_after_waiting(lease: Lease, enter: Any = Lease.__enter__) -> Lease:
    enter(lease)
    lease.waited = True
    return lease


@pytest.mark.parametrize("what", ["code", "data"])
@pytest.mark.fault(27)
def test_state_of_other_code_or_data_is_not_continued(
    toys: PreparedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    run(toys, tmp_path / "old", stop_after=10, code="a")
    dataset = toys if what == "code" else training_toys.write_dataset(tmp_path / "d", seed=3)
    code = "b" if what == "code" else "a"
    run(dataset, tmp_path / "old", code=code)
    assert f"the {what} changed" in capsys.readouterr().err
    run(dataset, tmp_path / "new", code=code)
    assert weights(tmp_path / "old") == weights(tmp_path / "new")


@pytest.mark.fault(27)
def test_state_of_another_recipe_or_seed_is_refused(toys: PreparedDataset, tmp_path: Path) -> None:
    run(toys, tmp_path, stop_after=10)
    with pytest.raises(TrainingError, match="belongs to seed 0, this run is seed 1"):
        run(toys, tmp_path, seed=1)
    with pytest.raises(TrainingError, match="belongs to recipe"):
        run(toys, tmp_path, base_lr=0.01)


@pytest.mark.fault(22)
def test_folder_that_cannot_be_written_is_found_first(
    toys: PreparedDataset, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"cannot write into .*out"):
        run(toys, tmp_path)


@pytest.mark.fault(20)
def test_memory_errors_name_batch_and_crop(toys: PreparedDataset, tmp_path: Path) -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()):
        with (
            pytest.raises(TrainingError, match="batches of 4 at crop 16x16"),
            training._memory(training_toys.recipe()),
        ):
            raise error


@pytest.mark.fault(20)
def test_killed_loader_process_is_explained(
    toys: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(TrainBatches, "__getitem__", die)
    with pytest.raises(TrainingError, match="a data loading process died training batches of 4"):
        run(toys, tmp_path, workers=1)


def test_class_weights_reach_the_loss(toys: PreparedDataset, tmp_path: Path) -> None:
    run(toys, tmp_path / "plain", iterations=5)
    run(toys, tmp_path / "power", iterations=5, class_weight_power=0.5)
    root = [1.0, 8**0.5, (4 / 3) ** 0.5, 1.0]
    run(toys, tmp_path / "given", iterations=5, class_weights=root)
    assert weights(tmp_path / "power") == weights(tmp_path / "given") != weights(tmp_path / "plain")
    with pytest.raises(ConfigError, match="expected 4 numbers"):
        run(toys, tmp_path / "wrong", class_weights=[1, 2])


def test_panoptic_targets_reach_the_model(toys: PreparedDataset, tmp_path: Path) -> None:
    run(toys, tmp_path, model="toy_panoptic", task="panoptic", iterations=5, shift=0)
    with pytest.raises(ConfigError, match="task: panoptic"):
        run(toys, tmp_path, model="toy_panoptic")


@pytest.fixture
def plain() -> dict[str, Any]:
    """A toy without dropout and batch statistics, whose gradient is a mean over images."""
    return {
        "model_options": {"norm": False, "dropout": 0.0},
        "iterations": 12,
        "scale_range": (1, 1),
    }


@pytest.mark.fault(1)
def test_two_processes_learn_what_one_learns(
    toys: PreparedDataset, tmp_path: Path, plain: dict[str, Any]
) -> None:
    run(toys, tmp_path / "one", **plain)
    for name, stops in (("two", (None,)), ("pieces", (7, None))):
        for stop in stops:
            pair = training_children.start_pair(
                toys.root, tmp_path / name, stop_after=stop, **plain
            )
            for process in pair:
                process.join(60)
            assert [process.exitcode for process in pair] == [0, 0]
    one = load_file(str(tmp_path / "one" / "out" / "weights.safetensors"))
    two = load_file(str(tmp_path / "two" / "out" / "weights.safetensors"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)
    assert weights(tmp_path / "two") == weights(tmp_path / "pieces")
    record = read_json(tmp_path / "two" / "out" / "recipe.json")
    assert (record["processes"], record["images_seen"]) == (2, 48)
