from __future__ import annotations

import hashlib
import os
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segbench.core.errors import DataError, TrainingError
from segbench.training.checkpoint import clean_temporaries, newest_checkpoint, save_checkpoint
from segbench.training.weights import load_weights_into


def save(folder: Path, iteration: int) -> Path:
    weights = {"weight": torch.full((300,), float(iteration))}
    return save_checkpoint(folder, {"model": weights, "note": "x"}, iteration=iteration)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lose_the_digest(path: Path) -> None:
    path.with_suffix(".pt.sha256").unlink()


def test_newest_of_two_is_kept_and_read(tmp_path: Path) -> None:
    for iteration in (5, 9, 10, 100):
        save(tmp_path, iteration)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [
        "checkpoint-10.pt",
        "checkpoint-100.pt",
    ]
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["iteration"] == 100
    assert torch.equal(found[1]["model"]["weight"], torch.full((300,), 100.0))


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_byte, lose_the_digest])
@pytest.mark.fault(3)
def test_damage_falls_back_and_says_so(
    tmp_path: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10)
    damage(save(tmp_path, 20))
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["iteration"] == 10
    assert "checkpoint-20.pt" in capsys.readouterr().err
    assert not (tmp_path / "checkpoint-20.pt").exists()


@pytest.mark.fault(3)
def test_all_damaged_gives_none(tmp_path: Path) -> None:
    empty(save(tmp_path, 10))
    assert newest_checkpoint(tmp_path) is None


class Malice:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.fault(4)
def test_malicious_checkpoint_is_refused_without_running(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    save(tmp_path, 10)
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        path = tmp_path / "checkpoint-20.pt"
        write({"format": "segbench-checkpoint-1", "model": Malice(proof)}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".pt.sha256").write_text(digest)
        with pytest.raises(TrainingError, match=r"checkpoint-20\.pt was refused"):
            newest_checkpoint(tmp_path)
        assert not proof.exists()


@pytest.mark.fault(4)
def test_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    path.with_suffix(".pt.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(TrainingError, match="no checkpoint of segbench"):
        newest_checkpoint(tmp_path)


@pytest.mark.fault(21)
def test_full_disk_leaves_earlier_checkpoints_and_no_rest(tmp_path: Path) -> None:
    save(tmp_path, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(DataError, match=r"checkpoint-20.*needs .* MiB, earlier .* intact"):
            save(tmp_path, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["iteration"] == 10
    assert not list(tmp_path.glob(".*"))
    assert save(tmp_path, 20).exists()


@pytest.mark.fault(8)
def test_refusal_before_the_commit_leaves_nothing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise TrainingError("lost")

    with pytest.raises(TrainingError, match="lost"):
        save_checkpoint(tmp_path, {}, iteration=1, before_commit=refuse)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(2)
def test_rests_of_killed_writers_are_cleaned(tmp_path: Path) -> None:
    kept = save(tmp_path, 10)
    (tmp_path / ".checkpoint-20.pt.x1.tmp").write_bytes(b"half")
    (tmp_path / "checkpoint-20.pt.sha256").write_text("0" * 64)
    clean_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == [kept, kept.with_suffix(".pt.sha256")]


@pytest.mark.fault(4)
def test_other_number_of_classes_is_named() -> None:
    model, other = nn.Conv2d(3, 21, 1), nn.Conv2d(3, 19, 1)
    with pytest.raises(TrainingError, match=r"bias: expected \(21,\), found \(19,\)"):
        load_weights_into(model, other.state_dict(), "weights of 19 classes")
    with pytest.raises(TrainingError, match="nothing"):
        load_weights_into(model, {"module.weight": torch.zeros(21, 3, 1, 1)}, "foreign names")
