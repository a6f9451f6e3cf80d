"""The whole board through a real Slurm that kills, loses and fails jobs while it runs.

One launch carries three faults at once: the training of ``fcn_tiny`` is cancelled, the node
of ``patient`` is lost while its trainer is frozen, and ``broken`` fails in every attempt.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.mini_cluster import MiniCluster, missing_packages
from tests.slurm.slurm_board import Checkout, Launch, wait_until_gone

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass
class Story:
    """What happened: the launches, the board after the first, and the folder they left."""

    checkout: Checkout
    lost_node: str
    table: dict[str, Any]
    first: Launch
    again: Launch
    second: Launch
    third: Launch

    def cell(self, experiment: str) -> dict[str, Any]:
        return next(c for c in self.table["cells"] if c["experiment"] == experiment)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if missing := missing_packages():
        text = f"missing system packages: {' '.join(missing)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(text)
    folder = tmp_path_factory.mktemp("slurm")
    with MiniCluster(folder / "cluster", nodes=3) as cluster:
        (folder / "board").mkdir()
        yield live_through(Checkout(folder / "board", cluster))


def live_through(checkout: Checkout) -> Story:
    """Launch and break things, thaw the frozen trainer, launch again without the broken model.

    Both trainings stop at a gate after a checkpoint, and cannot be done before they are caught.
    """
    gates = [checkout.gate("patient", iterations=6), checkout.gate("fcn_tiny", iterations=12)]
    with checkout.launched("--retries", "1", gates=gates) as first:
        frozen, cancelled = (gate.arrival(first.process) for gate in gates)
        lost = checkout.job("patient")
        checkout.freeze_node(lost, frozen)
        checkout.cluster.call("scancel", checkout.job("fcn_tiny")[0])
        wait_until_gone(cancelled)
        for gate in gates:
            gate.open()
    table = json.loads((checkout.folder / "results/partial/table.json").read_text())
    checkout.thaw(frozen)
    again = checkout.launch("--dry-run")
    config = checkout.folder / "config.yaml"
    config.write_text(config.read_text().replace("      - broken\n", ""))
    return Story(checkout, lost[1], table, first, again, checkout.launch(), checkout.launch())


@pytest.mark.fault(23)
def test_broken_model_costs_one_cell(story: Story) -> None:
    assert story.first.code == 1, story.first.output
    status = {cell["experiment"]: cell["status"] for cell in story.table["cells"]}
    assert status == {"oracle": "ok", "fcn_tiny": "ok", "patient": "ok", "broken": "failed"}
    cell = story.cell("broken")
    assert "logs/train/digit_scenes/broken/seed0.log" in cell["logs"]
    assert "broken on purpose" in story.checkout.log("train", "digit_scenes/broken/seed0.log")


def test_gpu_jobs_get_a_device(story: Story) -> None:
    if not story.checkout.cluster.has_devices:
        pytest.skip("this user may not make device files, so Slurm hands out no GPU")
    assert "GPU 0" in story.checkout.log("train", "digit_scenes/broken/seed0.log")
    asked: dict[str, set[bool]] = {}
    for job in story.checkout.cluster.call("scontrol", "show", "job", "-o").splitlines():
        rule = re.findall(r"Comment=rule_([a-z]+)", job)[0]
        asked.setdefault(rule, set()).add("TresPerJob=gres:gpu:1" in job)
    assert {rule for rule, gpu in asked.items() if gpu == {True}} == {"train", "predict", "profile"}
    assert {rule for rule, gpu in asked.items() if gpu == {False}} >= {"prepare", "evaluate"}


@pytest.mark.fault(6)
def test_cancelled_training_resumes(story: Story) -> None:
    log = story.checkout.log("train", "digit_scenes/fcn_tiny/seed0.log")
    resumed = re.search(r"resuming from .* at iteration (\d+)", log)
    assert resumed and int(resumed[1]) in (10, 13), "the checkpoint before, or that of the signal"
    recipe = json.loads((story.checkout.run("fcn_tiny") / "recipe.json").read_text())
    assert (recipe["attempts"], recipe["iterations"]) == (2, 60)
    assert "CANCELLED" in story.first.output


@pytest.mark.fault(8)
def test_lost_node_is_survived_by_another(story: Story) -> None:
    assert story.checkout.cluster.node_state(story.lost_node).startswith("down")
    log = story.checkout.log("train", "digit_scenes/patient/seed0.log")
    assert re.search(r"resuming from .* at iteration 4\b", log)


@pytest.mark.parametrize("experiment", ["fcn_tiny", "patient"])
@pytest.mark.fault(6, 8)
def test_weights_equal_those_of_an_unbroken_run(
    story: Story, tmp_path: Path, experiment: str
) -> None:
    checkout = story.checkout
    recipe = f"experiments/digit_scenes/{experiment}.yaml"
    out, state = tmp_path / "out", tmp_path / "state"
    arguments = ["--data", "results/data/digit_scenes", "--out", str(out), "--state", str(state)]
    checkout.segbench("train", recipe, *arguments)
    assert checkout.weights(out) == checkout.weights(checkout.run(experiment))
    rows = (checkout.run(experiment) / "train_log.jsonl").read_text().splitlines()
    iterations = [json.loads(row)["iteration"] for row in rows]
    assert iterations == sorted(set(iterations))


@pytest.mark.fault(23)
def test_failed_row_is_tried_again(story: Story) -> None:
    assert jobs(story.again.output) >= {"train", "collect", "report"}
    assert "experiment=broken" in story.again.output
    assert "experiment=fcn_tiny" not in story.again.output


def test_launch_without_it_only_collects_and_the_next_does_nothing(story: Story) -> None:
    assert story.second.code == 0, story.second.output
    assert jobs(story.second.output) == {"all", "collect", "report"}
    assert (story.third.code, jobs(story.third.output)) == (0, set())
    assert "Nothing to be done" in story.third.output
    index = story.checkout.folder / "results/report/index.html"
    assert "segbench on a small cluster" in index.read_text()


def jobs(output: str) -> set[str]:
    """Return the rules that Snakemake ran or would run."""
    return set(re.findall(r"^(?:local)?rule (\w+):", output, re.M))


def test_slurm_logs_of_every_attempt_are_kept(story: Story) -> None:
    folder = story.checkout.folder / "results/logs/slurm/rule_train"
    assert len(list(folder.glob("digit_scenes_fcn_tiny_0/*.log"))) == 2
    assert len(list(folder.glob("digit_scenes_broken_0/*.log"))) == 2


def test_doctor_finds_this_cluster_fit(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    from segbench.workflow.slurm import check_slurm

    for name, value in story.checkout.cluster.environment().items():
        monkeypatch.setenv(name, value)
    findings = check_slurm(story.checkout.folder / "slurm" / "config.yaml")
    assert len(findings) == 6
    assert [row for row in findings if row["status"] != "ok"] == []
