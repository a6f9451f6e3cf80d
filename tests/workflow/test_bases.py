"""Runs that start from other runs: the plan, its fingerprints, and the DAG."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segbench.core.errors import ConfigError
from segbench.workflow.plan import Plan, load_plan

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "model": "fcn_tiny", "dataset": "digit_scenes", "task": "semantic", "iterations": 4,
    "batch_size": 2, "base_lr": 0.001, "crop_size": [32, 32], "gpus": 0, "profile_size": [32, 32],
}  # fmt: skip


class Board:
    """A folder with experiments and a configuration that may be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe("first")
        self.recipe("second", init_from="first")
        self.recipe("third", init_from="digit_scenes/second", base_lr=0.0001)

    def recipe(self, name: str, **changes: object) -> None:
        file = self.folder / "experiments" / str(changes.get("dataset", "digit_scenes"))
        file.mkdir(parents=True, exist_ok=True)
        (file / f"{name}.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}))

    def plan(self, *runs: dict[str, object]) -> Plan:
        config = {
            "experiments_folder": str(self.folder / "experiments"),
            "results": str(self.folder / "results"),
            "datasets": {"digit_scenes": {"options": {"train": 4, "val": 2}}},
            "report": {"gallery_images": 0},
            "runs": [{"dataset": "digit_scenes", **run} for run in runs],
        }
        self.config.write_text(yaml.safe_dump(config))
        return load_plan(self.config)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def names(cells: object) -> list[tuple[str, int]]:
    return [(cell.experiment, cell.seed) for cell in cells]


def test_runs_that_are_not_listed_are_trained_and_not_shown(board: Board) -> None:
    plan = board.plan({"experiments": ["third"], "seeds": [0, 1], "iterations": 2})
    assert names(plan.cells) == [("third", 0), ("third", 1)]
    assert names(plan.bases) == [("second", 0), ("first", 0), ("second", 1), ("first", 1)]
    assert {cell.recipe.iterations for cell in plan.trained} == {2}
    third = plan.by_key["digit_scenes", "third", 1]
    second = plan.base_of(third)
    assert second is not None
    assert (second.experiment, second.seed) == ("second", 1)
    first = plan.base_of(second)
    assert first is not None
    assert plan.base_of(first) is None


def test_runs_that_are_listed_are_taken_as_they_are(board: Board) -> None:
    plan = board.plan({"experiments": ["second", "first"]}, {"experiments": ["third"]})
    assert plan.bases == ()
    assert plan.base_of(plan.cells[0]) == plan.cells[1]
    one_seed = board.plan({"experiments": ["first"]}, {"experiments": ["second"], "seeds": [0, 3]})
    assert names(one_seed.bases) == [("first", 3)]


def test_fingerprint_changes_with_every_run_before_it(board: Board, tmp_path: Path) -> None:
    def prints() -> list[str]:
        plan = board.plan({"experiments": ["first", "second", "third"]})
        return [plan.train_fingerprint(cell) for cell in plan.cells]

    before = prints()
    assert before[0].count("-") == 1
    board.recipe("first", base_lr=0.5)
    after = prints()
    assert all(a != b for a, b in zip(before, after, strict=True))
    board.recipe("third", init_from="second", base_lr=0.9)
    assert [a == b for a, b in zip(after, prints(), strict=True)] == [True, True, False]
    weights = tmp_path / "given.safetensors"
    for content, known in ((b"one", False), (b"two", False), (b"one", True)):
        weights.write_bytes(content)
        board.recipe("first", init_from=str(weights))
        now = prints()
        assert (now in after) == known
        after = [*after, now]  # type: ignore[list-item]


def test_fingerprint_changes_with_the_backbones_file(board: Board, tmp_path: Path) -> None:
    weights = tmp_path / "vgg.safetensors"
    board.recipe("first", model="fcn_8s", backbone_weights=str(weights))
    found = []
    for content in (b"one", b"two", b"one"):
        weights.write_bytes(content)
        plan = board.plan({"experiments": ["first"]})
        found.append(plan.train_fingerprint(plan.cells[0]))
    assert found[0] == found[2] != found[1]


def test_circles_and_unknown_names_are_refused(board: Board) -> None:
    board.recipe("first", init_from="third")
    with pytest.raises(ConfigError) as caught:
        board.plan({"experiments": ["third"]})
    circle = " -> ".join(f"digit_scenes/{n}" for n in ("third", "second", "first", "third"))
    assert circle in str(caught.value)
    board.recipe("first", init_from="secnd")
    with pytest.raises(ConfigError, match=r"first\.yaml: init_from: .*Did you mean 'second'"):
        board.plan({"experiments": ["first"]})
    board.recipe("first", init_from="digit_scene/second")
    with pytest.raises(ConfigError, match=r"first\.yaml: init_from: .*'digit_scene'"):
        board.plan({"experiments": ["first"]})
    board.recipe("first", init_from="oracle")
    with pytest.raises(ConfigError, match="is a control"):
        board.plan({"experiments": ["first"]})
    board.recipe("first", init_from="nowhere.safetensors")
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors does not exist"):
        board.plan({"experiments": ["first"]})


def test_one_base_has_one_length(board: Board) -> None:
    runs = [{"experiments": ["second"], "iterations": 2}, {"experiments": ["third"]}]
    with pytest.raises(ConfigError, match="digit_scenes/first is needed in two lengths"):
        board.plan(*runs)
    listed = board.plan(*runs, {"experiments": ["first"], "iterations": 3})
    assert {c.experiment: c.recipe.iterations for c in listed.trained} == {
        "second": 2, "third": 4, "first": 3,
    }  # fmt: skip


def test_init_from_names_an_experiment_or_a_file(board: Board) -> None:
    recipe = board.plan({"experiments": ["second"]}).cells[0].recipe
    assert recipe is not None
    assert recipe.base == ("digit_scenes", "first")
    assert recipe.init_file is None
    file = recipe.model_copy(update={"init_from": "some/where.safetensors"})
    assert file.base is None
    assert file.init_file == Path("some/where.safetensors")


@pytest.mark.slow
def test_the_dag_trains_what_a_run_starts_from_first(board: Board) -> None:
    board.plan({"experiments": ["second"]})
    printed = snakemake(board.config, "--dry-run")
    jobs = re.findall(r"rule (\w+):", printed)
    assert (jobs.count("train"), jobs.count("predict"), jobs.count("profile")) == (2, 1, 1)
    weights = "results/digit_scenes/second/seed0/weights.safetensors"
    target = str(board.folder / weights)
    snakemake(board.config, target)
    log = (board.folder / "results/logs/train/digit_scenes/second/seed0.log").read_text()
    assert re.search(r"starts from first: (\d+) of \1 tensors taken", log)
    assert "Nothing to be done" in snakemake(board.config, target)


def snakemake(config: Path, *options: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "1", *options, "--configfile", str(config)]
    done = subprocess.run(
        command, cwd=config.parent, env=environment, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
