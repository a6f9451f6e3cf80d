"""What starts with a dot is nobody's model, dataset or truth, and stands in nobody's way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from segbench.cli import main
from segbench.datasets import dataset_infos
from segbench.models.registry import model_infos

NOTE = b"\0\5\26\7\0\2\0\0"
"""How the notes of macOS on a file begin."""


def call(*arguments) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["segbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("variable", "listed", "names"),
    [
        ("SEGBENCH_MODELS_PATH", model_infos, ("._own.py",)),
        ("SEGBENCH_DATASETS_PATH", dataset_infos, ("._own.py", "._own.yaml", "._own.yml")),
    ],
)
def test_hidden_files_are_no_models_and_no_datasets(
    variable, listed, names, tmp_path, monkeypatch, capfd
):
    for name in names:
        (tmp_path / name).write_bytes(NOTE + b"\nINFO = 1\nfolder: x\n")
    monkeypatch.setenv(variable, str(tmp_path))
    listed()
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digit_scenes"
    options = ("--option", "train=2", "--option", "val=3")
    assert call("prepare", "digit_scenes", *options, "--out", folder) == 0
    return folder


def test_hidden_files_of_a_prepared_dataset_are_not_reported(data, capfd):
    (data / "images/val/.DS_Store").write_bytes(NOTE)
    assert call("check-data", data) == 0
    assert "DS_Store" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("name", "code"),
    [(".DS_Store", 0), ("semantic/.DS_Store", 0), ("semantic/._val_000000.png", 0),
     ("semantic/Thumbs.db", 0), ("._thesis.txt", 2), (".secret", 2), ("semantic/.git/config", 2)],
)  # fmt: skip
def test_notes_of_file_managers_do_not_stop_a_replacement(data, tmp_path, capfd, name, code):
    out = tmp_path / "made"
    assert call("control", "oracle", "--data", data, "--out", out) == 0
    file: Path = out / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(NOTE)
    assert call("control", "oracle", "--data", data, "--out", out) == code
    assert file.exists() == bool(code)
    assert code == 0 or file.read_bytes() == NOTE
    assert code == 0 or file.name in capfd.readouterr().err
