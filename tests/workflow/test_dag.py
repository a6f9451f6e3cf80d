"""The DAG on a private copy of the workflow: what runs, what is stale, what fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

CONFIG = """\
datasets:
  digit_scenes:
    options: {train: 8, val: 4}
runs:
  - dataset: digit_scenes
    controls: [oracle]
    experiments: [fcn_tiny, panoptic_fpn_tiny]
    iterations: 2
"""
BROKEN = """
from torch import nn
from segbench.registry import register_model


@register_model("broken", task="semantic", paper="None", year=2026, display_name="Broken")
def broken(num_classes):
    raise RuntimeError("this model cannot be built")
"""


class Checkout:
    """A copy of the sources and the workflow in which anything may be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("segbench", "workflow", "envs", "report"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "config.yaml").write_text(CONFIG)

    def snakemake(self, *options: str, check: int = 0) -> str:
        """Run Snakemake here and return all it printed."""
        environment = {
            **os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1",
            "SEGBENCH_MODELS_PATH": str(self.folder / "mine"),
        }  # fmt: skip
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", *options]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == check, done.stdout[-6000:]
        return done.stdout

    def stale(self) -> dict[str, set[str]]:
        """Return what a dry run would do: rule -> experiments."""
        text = self.snakemake("--dry-run")
        jobs: dict[str, set[str]] = {}
        for block in re.split(r"\n(?=(?:local)?rule )", text):
            rule = re.match(r"(?:local)?rule (\w+):", block)
            wildcards = re.search(r"experiment=([^,\n]+)", block)
            if rule and rule[1] != "all":
                jobs.setdefault(rule[1], set()).add(wildcards[1] if wildcards else "")
        return jobs

    def edit(self, name: str, text: str) -> None:
        with (self.folder / "segbench" / name).open("a") as stream:
            stream.write(text)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    made.snakemake()
    return made


BOARD = {"collect": {""}, "report": {""}}


def test_everything_is_made(checkout):
    results = checkout.folder / "results"
    table = json.loads((results / "table.json").read_text())
    assert {cell["status"] for cell in table["cells"]} == {"ok"}
    assert len(table["cells"]) == 3 + 1 + 3
    assert (results / "report" / "index.html").exists()
    oracle = [c["record"] for c in table["cells"] if c["experiment"] == "oracle"]
    assert [record["task"] for record in oracle]
    for record in oracle:
        main = {"semantic": "miou", "instance": "ap", "panoptic": "pq"}[record["task"]]
        assert record["scores"][main] == 1.0
    for cell in table["cells"]:
        if cell["kind"] == "trained":
            assert cell["profile"]["params"] > 0
            assert cell["record"]["digests"].keys() >= {"recipe", "data", "code", "weights"}


def test_second_run_has_nothing_to_do(checkout):
    assert "Nothing to be done" in checkout.snakemake()


def test_changed_times_and_comments_rerun_nothing(checkout):
    checkout.edit("models/fcn.py", "# a comment\n")
    checkout.edit("training.py", "\n\n# another comment\n")
    for path in checkout.folder.rglob("*.py"):
        os.utime(path)
    assert checkout.stale() == {}


def test_one_models_code_marks_exactly_its_rows(checkout):
    source = checkout.folder / "segbench/models/panoptic_fpn.py"
    before = source.read_text()
    checkout.edit("models/panoptic_fpn.py", "\n_CHANGED = 1\n")
    only = {"panoptic_fpn_tiny"}
    stages = ("train", "predict", "evaluate", "overlays", "profile")
    assert checkout.stale() == dict.fromkeys(stages, only) | BOARD
    source.write_text(before)
    assert checkout.stale() == {}


def test_evaluation_code_trains_nothing(checkout):
    source = checkout.folder / "segbench/evaluation/semantic.py"
    before = source.read_text()
    checkout.edit("evaluation/semantic.py", "\n_CHANGED = 1\n")
    jobs = checkout.stale()
    assert jobs.keys() >= {"evaluate", "collect", "report"}
    assert not jobs.keys() & {"train", "predict", "prepare"}
    source.write_text(before)


def test_recipe_change_trains_one_row_and_threshold_none(checkout):
    recipe = checkout.folder / "workflow/experiments/digit_scenes/fcn_tiny.yaml"
    before = recipe.read_text()
    recipe.write_text(before + "# a comment\n")
    assert checkout.stale() == {}
    recipe.write_text(re.sub(r"base_lr: .*", "base_lr: 0.00123", before))
    assert checkout.stale()["train"] == {"fcn_tiny"}
    recipe.write_text(before + "score_threshold: 0.123\n")
    jobs = checkout.stale()
    assert jobs["predict"] == {"fcn_tiny"}
    assert "train" not in jobs
    recipe.write_text(before)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("controls:", "control:", "Did you mean 'controls'?"),
        ("fcn_tiny", "fcn_tyni", "Did you mean 'fcn_tiny'?"),
        ("dataset: digit_scenes", "dataset: digits", "Did you mean 'digit_scenes'?"),
        ("iterations: 2", "iterations: two", "iterations"),
    ],
)
def test_config_mistakes_stop_before_the_dag(checkout, old, new, words):
    assert old in CONFIG
    path = checkout.folder / "wrong.yaml"
    path.write_text(CONFIG.replace(old, new))
    printed = checkout.snakemake("--dry-run", "--configfile", "wrong.yaml", check=2)
    assert words in printed
    assert "wrong.yaml" in printed or new in printed
    assert "Traceback" not in printed


def test_a_broken_model_costs_one_cell(checkout):
    mine = checkout.folder / "mine"
    mine.mkdir()
    (mine / "broken.py").write_text(BROKEN)
    experiments = checkout.folder / "workflow/experiments/digit_scenes"
    text = (experiments / "fcn_tiny.yaml").read_text()
    text = re.sub(r"^model: .*$", "model: broken", text, flags=re.M)
    text = re.sub(r"^model_options:.*\n", "", text, flags=re.M)
    (experiments / "broken.yaml").write_text(text)
    config = CONFIG.replace("_fpn_tiny]", "_fpn_tiny, broken]")
    (checkout.folder / "broken.yaml").write_text(config)
    checkout.snakemake("--configfile", "broken.yaml", check=1)
    results = checkout.folder / "results"
    table = json.loads((results / "partial" / "table.json").read_text())
    failed = [cell for cell in table["cells"] if cell["status"] != "ok"]
    assert [cell["experiment"] for cell in failed] == ["broken"]
    assert failed[0]["status"] == "failed"
    assert "cannot be built" in failed[0]["reason"]
    assert (results / failed[0]["logs"][0]).exists()
    page = (results / "report" / "index.html").read_text()
    assert "cannot be built" in page
