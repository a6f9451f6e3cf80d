"""``segbench redo`` takes away what one row has made, and nothing else."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from segbench.cli.redo import redo
from segbench.core.errors import ConfigError, LeaseHeld
from segbench.core.lease import Lease
from segbench.workflow.launch import own
from tests.workflow.launches import Board

MADE = {
    "train": ["weights.safetensors", "recipe.json", "train_log.jsonl"],
    "predict": ["predictions/val/manifest.json", "predictions/val/semantic/a.png"],
    "evaluate": [
        "evaluation/val/records.json", "evaluation/val/semantic/record.json",
        "evaluation/val/semantic/counts.npz", "overlays/val/overlays.json",
        "overlays/val/semantic/a-error.webp",
    ],
}  # fmt: skip
KEPT = ["profile.json", "notes.txt", "predictions/val/semantic/mine.txt"]
STATE = "state/digit_scenes/fcn_tiny/seed0/0123"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path)
    for row in ("digit_scenes/fcn_tiny/seed0", "digit_scenes/oracle/seed0"):
        for name in (*chain(*MADE.values()), *KEPT):
            write(made.results / row / name)
    for name in ("checkpoint-4.pt", "checkpoint-4.pt.sha256", "lock", "mine.txt"):
        write(made.results / STATE / name)
    return made


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("content")


def files(folder: Path) -> set[str]:
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {p.as_posix() for p in found if p.parts[0] != ".launch"}


def call(board: Board, *arguments: str, answer: str = "") -> Result:
    command = [*arguments, "--config", str(board.config)]
    return CliRunner().invoke(redo, command, input=answer, catch_exceptions=True)


@pytest.mark.parametrize("stage", ["", "train", "predict", "evaluate"])
def test_only_the_files_of_the_row_from_a_stage_on_go(board: Board, stage: str) -> None:
    before = files(board.results)
    options = ["--from", stage] if stage else []
    done = call(board, "digit_scenes/fcn_tiny/seed0", "--yes", *options)
    assert done.exit_code == 0, done.output
    stages = list(MADE)[list(MADE).index(stage or "train") :]
    gone = {f"digit_scenes/fcn_tiny/seed0/{name}" for s in stages for name in MADE[s]}
    if stages[0] == "train":
        gone |= {f"{STATE}/{n}" for n in ("checkpoint-4.pt", "checkpoint-4.pt.sha256", "lock")}
    assert before - files(board.results) == gone
    assert files(board.results) <= before


def test_nothing_goes_without_a_yes(board: Board) -> None:
    before = files(board.results)
    asked = call(board, "digit_scenes/fcn_tiny", answer="n\n")
    assert asked.exit_code != 0
    assert "weights.safetensors" in asked.output
    assert files(board.results) == before
    assert call(board, "digit_scenes/fcn_tiny", answer="y\n").exit_code == 0
    assert files(board.results) < before
    again = call(board, "digit_scenes/fcn_tiny")
    assert again.exit_code == 0
    assert "nothing to take away" in again.output


def test_a_link_is_not_followed_out_of_the_results(board: Board, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(board.row / "predictions" / "val", elsewhere)
    (board.row / "predictions" / "val").symlink_to(elsewhere)
    before = files(elsewhere)
    assert call(board, "digit_scenes/fcn_tiny", "--yes").exit_code == 0
    assert files(elsewhere) == before


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ("digit_scenes/fcn_tyni/seed0", [], "Did you mean 'digit_scenes/fcn_tiny/seed0'"),
        ("fcn_tiny", [], "Did you mean 'digit_scenes/fcn_tiny/seed0'"),
        ("digit_scenes/oracle", ["--from", "train"], "is not trained"),
        ("../../etc", [], "has no row"),
    ],
)
def test_mistakes_are_named(board: Board, row: str, options: list[str], words: str) -> None:
    before = files(board.results)
    done = call(board, row, "--yes", *options)
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)
    assert files(board.results) == before


@pytest.mark.parametrize("where", ["results", "state"])
def test_refused_while_something_runs(board: Board, where: str) -> None:
    before = files(board.results)
    holder = own(board.results, "x") if where == "results" else Lease(board.results / STATE)
    with holder:
        done = call(board, "digit_scenes/fcn_tiny", "--yes")
    assert isinstance(done.exception, LeaseHeld), done.output
    assert before <= files(board.results)
