"""Tie groups of a table: which cells take part, what is left out, what collect writes."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from segbench.core.files import write_json
from segbench.evaluation.counts import load_counts, save_counts
from segbench.evaluation.protocol import get_protocol
from segbench.statistics.ties import tie_groups
from segbench.workflow.board_ties import board_ties
from segbench.workflow.cell import Cell
from segbench.workflow.result_checks import ResultChecks
from segbench.workflow.results import collect
from tests.statistics.made_counts import from_tables

POOLED = "semantic-pooled"
SKILLS = {"best": [0.2, 0.2], "one": [0.1], "other": [0.1], "worst": [0.0]}


def counts(skill, *, seed, images=60, pixels=400):
    """Images of two classes; those of one place are as hard for every row."""
    hard = np.random.default_rng(0).uniform(0.5, 0.7, images)
    right = np.random.default_rng([seed, round(100 * skill)]).binomial(pixels, hard + skill)
    tables = np.zeros((images, 3, 3), dtype=np.int64)
    for place in (0, 1):
        tables[:, place, place], tables[:, place, 1 - place] = right, pixels - right
    return {"semantic": from_tables(tables)}


def scored(root, experiment, skill, *, seed=0, kind="trained", protocol=POOLED, images=60):
    """Write the counts of a run and return its cell; a copy of ``one`` is called ``other``."""
    run = f"d/{experiment}/seed{seed}"
    parts = counts(skill, seed=seed, images=images)
    save_counts(root / run / "evaluation/val/semantic/counts.npz", parts)
    record = {
        "task": "semantic", "protocol": protocol, "scores": {"miou": 0.5},
        "num_images": images, "counts": "counts.npz",
    }  # fmt: skip
    write_json(root / run / "evaluation/val/records.json", {"records": [record]})
    return {
        "dataset": "d", "experiment": experiment, "seed": seed, "task": "semantic",
        "split": "val", "kind": kind, "run_folder": run, "record": record,
    }  # fmt: skip


@pytest.fixture
def cells(tmp_path):
    return [
        scored(tmp_path, name, skill, seed=seed)
        for name, skills in SKILLS.items()
        for seed, skill in enumerate(skills)
    ]


def test_planted_ties_share_a_group_and_distinct_rows_do_not(tmp_path, cells):
    (board,) = board_ties(tmp_path, cells)
    names = ("dataset", "split", "task", "protocol", "metric", "level", "resamples")
    assert [board[name] for name in names] == ["d", "val", "semantic", POOLED, "miou", 0.95, 1000]
    found = [(r["name"], r["group"], r["rank_low"], r["rank_high"]) for r in board["rows"]]
    assert found == [("best", 0, 1, 1), ("one", 1, 2, 3), ("other", 1, 2, 3), ("worst", 2, 4, 4)]


def test_rows_are_those_of_the_stored_counts_of_all_seeds(tmp_path, cells):
    path = "d/{}/seed{}/evaluation/val/semantic/counts.npz"
    runs = {
        name: [load_counts(tmp_path / path.format(name, seed)) for seed in range(len(skills))]
        for name, skills in SKILLS.items()
    }
    expected = [asdict(row) for row in tie_groups(runs, get_protocol(POOLED), "miou")]
    (board,) = board_ties(tmp_path, cells)
    assert board["rows"] == expected
    assert json.dumps(board_ties(tmp_path, cells)) == json.dumps([board])


def test_controls_failures_and_missing_scores_take_no_part(tmp_path, cells):
    extra = [
        scored(tmp_path, "oracle", 0.3, kind="control"),
        {**scored(tmp_path, "broken", 0.3), "record": None},
        scored(tmp_path, "empty", 0.3),
    ]
    extra[2]["record"]["scores"]["miou"] = None
    assert board_ties(tmp_path, [*extra, *cells]) == board_ties(tmp_path, cells)


@pytest.mark.parametrize(
    "change",
    [{"images": 59}, {"images": 9}, {"protocol": "coco-instances"}, {"protocol": "unheard-of"}],
)
def test_a_board_whose_rows_cannot_be_compared_is_left_out(tmp_path, change):
    same = {} if "images" in change and change["images"] == 59 else change
    rows = [scored(tmp_path, "a", 0.1, **same), scored(tmp_path, "b", 0.2, **change)]
    assert board_ties(tmp_path, rows) == []


def test_lone_rows_other_protocols_and_lost_counts_are_left_out(tmp_path):
    first, second = scored(tmp_path, "a", 0.1), scored(tmp_path, "b", 0.2)
    assert board_ties(tmp_path, [first]) == []
    other = {**second, "record": {**second["record"], "protocol": "cityscapes-19"}}
    assert board_ties(tmp_path, [first, other]) == []
    assert len(board_ties(tmp_path, [first, second])) == 1
    (tmp_path / "d/b/seed0/evaluation/val/semantic/counts.npz").unlink()
    assert board_ties(tmp_path, [first, second]) == []


def test_collect_puts_the_ties_beside_the_cells(tmp_path, cells, monkeypatch):
    records = {(cell["experiment"], cell["seed"]): cell["record"] for cell in cells}
    found = lambda self, cell, task: records[cell.experiment, cell.seed]  # noqa: E731
    monkeypatch.setattr(ResultChecks, "record", found)
    monkeypatch.setattr(ResultChecks, "profile", lambda self, cell: None)
    planned = [
        Cell("d", cell["experiment"], cell["seed"], "val", ("semantic",), recipe=object())
        for cell in cells
    ]
    report = SimpleNamespace(title="t", gallery_images=1)
    plan = SimpleNamespace(
        results=tmp_path, config=SimpleNamespace(report=report), datasets=("d",), cells=planned
    )
    table = collect(plan)
    assert {cell["status"] for cell in table["cells"]} == {"ok"}
    assert table["ties"] == board_ties(tmp_path, cells)
    assert len(table["ties"][0]["rows"]) == len(SKILLS)
