"""Weights of another run as a start, and parts that stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import nn

from segbench.cli.train import train as train_command
from segbench.core.errors import ConfigError, TrainingError
from segbench.core.files import read_json
from segbench.formats.prepared import PreparedDataset
from segbench.training.initial_weights import freeze, start_from
from segbench.training.loop import Outcome, train
from tests.training import training_toys

DERIVED = {"init_from": "base", "base_lr": 0.01, "iterations": 10, "warmup_iterations": 0}


def run(dataset: PreparedDataset, folder: Path, **changes: Any) -> Outcome:
    options = {k: changes.pop(k) for k in ("stop_after", "init", "code") if k in changes}
    recipe = training_toys.recipe(**changes)
    places = {"out": folder / "out", "state": folder / "state"}
    return train(recipe, dataset, seed=0, **places, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_MODELS_PATH", str(model_folder))
        run(training_toys.write_dataset(folder / "data"), folder, iterations=6)
    return folder / "out" / "weights.safetensors"


def test_a_step_of_rate_nearly_zero_gives_back_the_weights_it_started_from(
    toys: PreparedDataset, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = {**DERIVED, "base_lr": 1e-30, "iterations": 1, "momentum": 0.0}
    run(toys, tmp_path, init=base, **still)
    found = load_file(tmp_path / "out" / "weights.safetensors")
    for name, tensor in load_file(base).items():
        if not name.startswith("norm.running") and not name.endswith("tracked"):
            assert torch.equal(found[name], tensor), name
    assert "starts from base: 9 of 9 tensors taken" in capsys.readouterr().err
    facts = read_json(tmp_path / "out" / "recipe.json")["init"]
    assert (facts["from"], facts["taken"], facts["kept"]) == ("base", 9, [])
    fresh = tmp_path / "fresh"
    run(toys, fresh, **{**still, "init_from": None})
    own = load_file(fresh / "out" / "weights.safetensors")
    assert not torch.equal(own["head.weight"], found["head.weight"])
    assert "init" not in read_json(fresh / "out" / "recipe.json")


def test_what_fits_by_name_and_shape_is_taken_and_the_rest_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    stored = {"0.weight": torch.ones(4, 2), "1.weight": torch.ones(3, 4), "9.bias": torch.ones(1)}
    save_file(stored, file)
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = start_from(model, file)
    assert (start.taken, start.kept) == (1, ("0.bias", "1.bias", "1.weight"))
    assert start.unused == ("1.weight", "9.bias")
    assert str(start) == (
        "1 of 4 tensors taken; at their own start: 0.bias, 1.bias, 1.weight; "
        "not used: 1.weight, 9.bias"
    )
    after = model.state_dict()
    assert torch.equal(after["0.weight"], stored["0.weight"])
    assert all(torch.equal(after[name], before[name]) for name in start.kept)


def test_a_part_of_the_network_may_be_filled(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    inner = nn.Linear(2, 4)
    save_file(inner.state_dict(), file)
    model = nn.ModuleDict({"unary": nn.Linear(2, 4), "crf": nn.Linear(4, 4)})
    assert start_from(model, file, into="unary").taken == 2
    assert torch.equal(model["unary"].weight, inner.weight)
    with pytest.raises(ConfigError, match="no part 'unry'"):
        start_from(model, file, into="unry")


@pytest.mark.fault(4)
def test_weights_of_which_nothing_fits_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    norm = {"norm.num_batches_tracked": torch.tensor(3)}
    save_file({"other": torch.ones(2), **norm}, file)
    model = nn.ModuleDict({"norm": nn.BatchNorm2d(3)})
    with pytest.raises(TrainingError, match="none of its 2 tensors has name and shape"):
        start_from(model, file)
    file.write_bytes(b"not a file of tensors")
    with pytest.raises(TrainingError, match="no readable safetensors"):
        start_from(model, file)


@pytest.mark.parametrize("frozen", [[], ["backbone", "norm"]])
@pytest.mark.fault(1)
def test_pieces_of_a_run_from_a_base_equal_the_unbroken_run(
    toys: PreparedDataset, tmp_path: Path, base: Path, frozen: list[str]
) -> None:
    changes = {**DERIVED, "init": base, "frozen": frozen}
    run(toys, tmp_path / "whole", **changes)
    for stop in (3, 7, None):
        run(toys, tmp_path / "pieces", stop_after=stop, **changes)
    whole, pieces = (tmp_path / n / "out" / "weights.safetensors" for n in ("whole", "pieces"))
    assert whole.read_bytes() == pieces.read_bytes()
    if frozen:
        before, after = load_file(base), load_file(whole)
        held = {k for k in before if k.startswith(("backbone", "norm"))}
        assert all(torch.equal(before[k], after[k]) for k in held)
        assert not torch.equal(before["head.weight"], after["head.weight"])


@pytest.mark.fault(27)
def test_a_checkpoint_of_other_first_weights_is_not_continued(
    toys: PreparedDataset, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(toys, tmp_path, init=base, stop_after=5, **DERIVED)
    other = tmp_path / "other.safetensors"
    save_file({k: v + 1 for k, v in load_file(base).items()}, other)
    run(toys, tmp_path, init=other, **DERIVED)
    assert "the weights it starts from changed since; training starts anew" in (
        capsys.readouterr().err
    )


def test_frozen_parts_rest_and_must_be_there() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    freeze(model, ["1"])
    assert [module.training for module in model] == [True, False]
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    with pytest.raises(ConfigError, match="frozen: the network has no part 'backbone'"):
        freeze(model, ["backbone"])


def test_weights_must_be_given_where_they_are_needed(
    toys: PreparedDataset, tmp_path: Path, base: Path
) -> None:
    with pytest.raises(ConfigError, match="starts from the experiment 'toys/base'"):
        run(toys, tmp_path, **DERIVED)
    with pytest.raises(ConfigError, match="does not exist"):
        run(toys, tmp_path, init=tmp_path / "no.safetensors", **DERIVED)
    with pytest.raises(ConfigError, match="the recipe starts from none"):
        run(toys, tmp_path, init=base)
    with pytest.raises(ConfigError, match=r"no\.safetensors does not exist"):
        run(toys, tmp_path, **{**DERIVED, "init_from": str(tmp_path / "no.safetensors")})
    assert not (tmp_path / "state").exists()


def test_command_line_takes_the_weights_of_the_base(
    toys: PreparedDataset, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreparedDataset, "refuse_unchecked", lambda *_: None)
    recipe = tmp_path / "derived.yaml"
    changes = {"init_from": "base", "iterations": 2, "warmup_iterations": 0}
    recipe.write_text(training_toys.recipe(**changes).model_dump_json())
    command = [str(recipe), "--data", str(toys.root), "--out", str(tmp_path / "run")]
    command += ["--state", str(tmp_path / "state"), "--device", "cpu"]
    failed = CliRunner().invoke(train_command, command)
    assert isinstance(failed.exception, ConfigError), failed.output
    done = CliRunner().invoke(train_command, [*command, "--init", str(base)])
    assert done.exit_code == 0, done.output
    assert read_json(tmp_path / "run" / "recipe.json")["init"]["taken"] == 9
