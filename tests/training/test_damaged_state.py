"""A run whose newest checkpoint is damaged goes on from the one before, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.core.files import read_json
from segbench.formats.prepared import PreparedDataset
from segbench.training.loop import train
from tests.training import training_toys


def run(dataset: PreparedDataset, folder: Path, stop_after: int | None = None) -> bytes:
    recipe = training_toys.recipe(iterations=20)
    out, state = folder / "out", folder / "state"
    train(recipe, dataset, seed=0, out=out, state=state, stop_after=stop_after)
    return b"" if stop_after else (out / "weights.safetensors").read_bytes()


@pytest.mark.fault(3)
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_the_log_and_the_record_name_a_damaged_checkpoint(
    toys: PreparedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    run(toys, tmp_path / "hurt", stop_after=12)
    newest = tmp_path / "hurt" / "state" / "checkpoint-12.pt"
    content = newest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    newest.write_bytes({"cut": content[:-9], "flipped": flipped, "empty": b""}[damage])
    assert run(toys, tmp_path / "hurt") == run(toys, tmp_path / "whole")
    assert "checkpoint-12.pt: its digest is" in capsys.readouterr().err
    found = read_json(tmp_path / "hurt" / "out" / "recipe.json")
    assert (found["damaged_checkpoints"], found["attempts"]) == (["checkpoint-12.pt"], 2)
    assert read_json(tmp_path / "whole" / "out" / "recipe.json")["damaged_checkpoints"] == []
