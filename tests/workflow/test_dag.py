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
    oracles: {panoptic_fpn_tiny: [semantic+boxes+masks]}
    iterations: 2
"""
ORACLE = "panoptic_fpn_tiny@oracle-semantic-boxes-masks"
BROKEN = """
from torch import nn
from segbench.models import register_model


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
    assert len(table["cells"]) == 3 + 1 + 3 + 3
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


def test_an_oracle_predicts_with_the_weights_of_its_network(checkout):
    results = checkout.folder / "results"
    table = json.loads((results / "table.json").read_text())
    cells = [c for c in table["cells"] if c["experiment"] == ORACLE]
    assert [c["task"] for c in cells] == ["panoptic", "instance", "semantic"]
    network = next(c for c in table["cells"] if c["experiment"] == "panoptic_fpn_tiny")
    for cell in cells:
        assert cell["kind"] == cell["record"]["kind"] == "oracle"
        assert cell["oracle"] == {
            "of": "panoptic_fpn_tiny",
            "parts": ["semantic", "boxes", "masks"],
        }
        assert cell["record"]["oracles"] == ["semantic", "boxes", "masks"]
        assert cell["record"]["experiment"] == ORACLE
        assert cell["display_name"] == "Panoptic FPN (tiny), oracle:semantic+boxes+masks"
        digests = network["record"]["digests"]
        assert cell["record"]["digests"]["weights"] == digests["weights"]
        assert cell["record"]["digests"]["predictions"] != digests["predictions"]
        assert cell["profile"] is None
    instances = cells[1]["record"]["scores"]
    assert instances["box_ap"] == instances["ap"] == 1.0
    assert not (results / cells[0]["run_folder"] / "weights.safetensors").exists()
    page = (results / "report/index.html").read_text()
    row = page[page.index('data-name="Panoptic FPN (tiny), oracle:semantic+boxes+masks"') :]
    assert '<span class="na">oracle</span>' in row[: row.index("</tr>")]


def test_second_run_has_nothing_to_do(checkout):
    assert "Nothing to be done" in checkout.snakemake()


@pytest.mark.fault(25, 26)
def test_changed_times_and_comments_rerun_nothing(checkout):
    checkout.edit("models/fcn.py", "# a comment\n")
    checkout.edit("training.py", "\n\n# another comment\n")
    for path in checkout.folder.rglob("*.py"):
        os.utime(path)
    assert checkout.stale() == {}


@pytest.mark.fault(25)
def test_one_models_code_marks_exactly_its_rows(checkout):
    source = checkout.folder / "segbench/models/panoptic_fpn.py"
    before = source.read_text()
    checkout.edit("models/panoptic_fpn.py", "\n_CHANGED = 1\n")
    only = {"panoptic_fpn_tiny"}
    stages = dict.fromkeys(("train", "profile"), only)
    stages |= dict.fromkeys(("predict", "evaluate", "overlays"), only | {ORACLE})
    assert checkout.stale() == stages | BOARD
    source.write_text(before)
    assert checkout.stale() == {}


@pytest.mark.fault(25)
def test_evaluation_code_trains_nothing(checkout):
    source = checkout.folder / "segbench/evaluation/semantic/counts.py"
    before = source.read_text()
    checkout.edit("evaluation/semantic/counts.py", "\n_CHANGED = 1\n")
    jobs = checkout.stale()
    assert jobs.keys() >= {"evaluate", "collect", "report"}
    assert not jobs.keys() & {"train", "predict", "prepare"}
    source.write_text(before)


@pytest.mark.fault(25)
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


def test_a_network_trained_anew_is_given_the_truth_anew(checkout):
    recipe = checkout.folder / "workflow/experiments/digit_scenes/panoptic_fpn_tiny.yaml"
    before = recipe.read_text()
    recipe.write_text(re.sub(r"base_lr: .*", "base_lr: 0.00123", before))
    jobs = checkout.stale()
    assert jobs["train"] == {"panoptic_fpn_tiny"}
    assert jobs["predict"] == jobs["evaluate"] == {"panoptic_fpn_tiny", ORACLE}
    recipe.write_text(before)
    config = checkout.folder / "more.yaml"
    config.write_text(CONFIG.replace("boxes+masks]", "boxes+masks, masks]"))
    printed = checkout.snakemake("--dry-run", "--configfile", "more.yaml")
    assert "experiment=panoptic_fpn_tiny@oracle-masks" in printed
    assert "rule train:" not in printed and f"experiment={ORACLE}" not in printed


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("controls:", "control:", "Did you mean 'controls'?"),
        ("fcn_tiny", "fcn_tyni", "Did you mean 'fcn_tiny'?"),
        ("dataset: digit_scenes", "dataset: digits", "Did you mean 'digit_scenes'?"),
        ("iterations: 2", "iterations: two", "iterations"),
        ("semantic+boxes", "semantic+bxes", "Did you mean 'boxes'?"),
        ("{panoptic_fpn_tiny:", "{fcn_tiny:", "oracles are for panoptic ones"),
    ],
)
@pytest.mark.fault(24)
def test_config_mistakes_stop_before_the_dag(checkout, old, new, words):
    assert old in CONFIG
    path = checkout.folder / "wrong.yaml"
    path.write_text(CONFIG.replace(old, new))
    printed = checkout.snakemake("--dry-run", "--configfile", "wrong.yaml", check=2)
    assert words in printed
    assert "wrong.yaml" in printed or new in printed
    assert "Traceback" not in printed


ROW = {"fcn_tiny"}
AGAIN = {"predict": ROW, "evaluate": ROW, "overlays": ROW}
REMOVED = {
    "row": (["{row}"], AGAIN | {"train": ROW, "profile": ROW} | BOARD),
    "record": (["{row}/evaluation"], {"evaluate": ROW, "overlays": ROW} | BOARD),
    "record and predictions": (["{row}/evaluation", "{row}/predictions"], AGAIN | BOARD),
    "profile": (["{row}/profile.json"], {"profile": ROW} | BOARD),
    "predictions": (["{row}/predictions"], {}),
    "weights": (["{row}/weights.safetensors"], {}),
    "state": (["state"], {}),
    "dataset": (["data"], {}),
}


@pytest.mark.parametrize("what", REMOVED)
def test_what_a_removal_runs_again(checkout, what):
    """What the board needs is made anew, and what was removed to save disk costs nothing."""
    names, jobs = REMOVED[what]
    results, aside = checkout.folder / "results", checkout.folder / "aside"
    places = [name.format(row="digit_scenes/fcn_tiny/seed0") for name in names]
    for number, place in enumerate(places):
        (results / place).rename(aside.with_name(f"aside{number}"))
    try:
        assert checkout.stale() == jobs
    finally:
        for number, place in enumerate(places):
            aside.with_name(f"aside{number}").rename(results / place)
    assert checkout.stale() == {}


@pytest.mark.fault(23)
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
