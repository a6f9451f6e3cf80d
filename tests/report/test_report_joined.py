"""Panoptic rows beside box AP, mask AP and mIoU of the same run; oracles apart from ranks."""

from __future__ import annotations

import json
import statistics

import pytest

from segbench.report.board import build_boards
from segbench.report.oracle_table import oracle_table, oracle_words
from segbench.report.runs import build_runs
from tests.report.test_report_site import read

PROTOCOLS = {"panoptic": "coco-panoptic", "instance": "coco-instances", "semantic": "pooled"}
BOX, MASK, MIOU = "coco-instances.box_ap", "coco-instances.ap", "pooled.miou"
SCORES = {
    "panoptic": lambda v: {"pq": v, "pq_things": v, "pq_stuff": v},
    "instance": lambda v: {"box_ap": v + 0.01, "ap": v},
    "semantic": lambda v: {"miou": v + 0.02},
}


def cell(experiment, task, value, *, seed=0, kind="trained", protocol="", split="val", of=None):
    record = {
        "protocol": protocol or PROTOCOLS[task], "scores": SCORES[task](value or 0),
        "num_images": 3, "model": None,
    }  # fmt: skip
    return {
        "dataset": "d", "experiment": experiment, "seed": seed, "task": task, "split": split,
        "kind": kind, "display_name": experiment, "status": "failed" if value is None else "ok",
        "reason": "", "run_folder": "x", "logs": [], "profile": None,
        "record": None if value is None else record,
        "oracle": {"of": of, "parts": ["semantic"]} if of else None,
    }  # fmt: skip


def run(experiment, value, **options):
    return [cell(experiment, task, value, **options) for task in PROTOCOLS]


def panoptic_boards(*cells):
    table = {"cells": cells, "datasets": {}, "models": {}}
    return [board for board in build_boards(table) if board.task == "panoptic"]


def raws(row, *keys):
    return [row.values[key].raw for key in keys]


def test_scores_of_the_same_run_stand_side_by_side():
    (board,) = panoptic_boards(*run("a", 0.3), *run("b", 0.5))
    assert [metric.key for metric in board.joined] == [BOX, MASK, MIOU]
    groups = {title: [m.label for m in metrics] for title, metrics in board.groups}
    assert groups["Instances"] == ["Box AP", "Mask AP"]
    assert groups["Semantic"] == ["mIoU"]
    assert [metric.protocol for metric in board.joined] == [*["coco-instances"] * 2, "pooled"]
    assert [(r.experiment, raws(r, BOX, MASK, MIOU)) for r in board.rows] == [
        ("b", [0.51, 0.5, 0.52]), ("a", [0.31, 0.3, 0.32]),
    ]  # fmt: skip
    assert [r.values[BOX].mark for r in board.rows] == ["best", "second"]


def test_columns_join_by_seed_split_and_experiment_and_average_over_seeds():
    cells = [c for seed, v in ((0, 0.2), (1, 0.4)) for c in run("a", v, seed=seed)]
    cells += [cell("a", "instance", 0.9, seed=2), cell("other", "instance", 0.9)]
    cells += [cell("a", "instance", 0.9, split="test")]
    (board,) = panoptic_boards(*cells)
    (row,) = board.rows
    assert row.values[MASK].raw == pytest.approx(0.3)
    assert row.values[MASK].sd == pytest.approx(statistics.stdev([0.2, 0.4]))
    assert row.values[MASK].interval is None


def test_one_run_shows_the_interval_of_its_other_record():
    cells = run("a", 0.3)
    ends = {"low": 0.25, "high": 0.35, "level": 0.95, "method": "bca", "resamples": 800}
    cells[1]["record"]["intervals"] = {"ap": ends}
    (board,) = panoptic_boards(*cells)
    assert board.rows[0].values[MASK].interval.ends == ("25.0", "35.0")
    assert board.rows[0].values[BOX].interval is None
    assert board.intervals == ["95\N{NO-BREAK SPACE}%"]


def test_protocols_never_share_a_column():
    other = [
        cell("b", "panoptic", 0.5),
        cell("b", "instance", 0.9, protocol="cityscapes-instances"),
        cell("b", "semantic", 0.5),
    ]
    (board,) = panoptic_boards(*run("a", 0.3), *other)
    groups = {title: [m.key for m in metrics] for title, metrics in board.groups}
    assert groups["Instances (coco-instances)"] == [BOX, MASK]
    theirs = [f"cityscapes-instances.{key}" for key in ("box_ap", "ap")]
    assert groups["Instances (cityscapes-instances)"] == theirs
    a, b = (next(r for r in board.rows if r.experiment == name) for name in "ab")
    assert raws(a, *theirs) == raws(b, BOX, MASK) == [None, None]
    assert [a.values[MASK].mark, b.values[theirs[1]].mark] == ["", ""]


def test_missing_tasks_and_scores_have_no_column_or_no_value():
    (board,) = panoptic_boards(cell("a", "panoptic", 0.3))
    assert board.joined == ()
    cells = [*run("a", 0.3), cell("b", "panoptic", 0.2), cell("b", "instance", None)]
    (board,) = panoptic_boards(*cells)
    assert raws(board.rows[1], BOX, MIOU) == [None, None]
    cells = run("a", 0.3)
    del cells[1]["record"]["scores"]["box_ap"]
    (board,) = panoptic_boards(*cells)
    assert [metric.key for metric in board.joined] == [MASK, MIOU]


def test_oracles_follow_their_networks_without_rank_or_mark():
    cells = [*run("low", 0.2), *run("high", 0.4)]
    for name in ("low", "high"):
        cells += run(f"{name}@oracle-semantic", 0.9, kind="oracle", of=name)
    (board,) = panoptic_boards(*cells, *run("oracle", 1.0, kind="control"))
    assert [(r.experiment, r.rank) for r in board.rows] == [("high", 1), ("low", 2)]
    assert [r.values["pq"].mark for r in board.rows] == ["best", "second"]
    assert [r.experiment for r in board.oracles] == [
        "high@oracle-semantic", "low@oracle-semantic",
    ]  # fmt: skip
    assert [r.experiment for r in board.controls] == ["oracle"]
    for row in (*board.oracles, *board.controls):
        assert (row.rank, row.tied, {v.mark for v in row.values.values()}) == (None, False, {""})
    assert board.oracles[0].values[MIOU].raw == pytest.approx(0.92)


def test_an_ablation_lists_the_network_first_and_the_change():
    cells = [
        *run("net@oracle-semantic", 0.9, kind="oracle", of="net"), *run("net", 0.4),
        *run("net", 0.5, seed=1), *run("else", 0.1),
    ]  # fmt: skip
    runs = build_runs({"cells": cells})
    net = next(r for r in runs if r.experiment == "net" and r.seed == 0)
    table = oracle_table(net, runs)
    assert table.labels == ("PQ", "PQ things", "PQ stuff", "Box AP", "Mask AP", "mIoU")
    assert [(r.name, r.here) for r in table.rows] == [
        ("all parts its own", True), ("oracle:semantic", False),
    ]  # fmt: skip
    assert table.rows[0].cells[0] == ("40.0", "")
    assert table.rows[1].cells[0] == ("90.0", "+50.0")
    assert table.rows[1].cells[5] == ("92.0", "+50.0")
    assert oracle_table(runs[-1], runs) is None
    cells[1]["record"]["protocol"] = "other"
    runs = build_runs({"cells": cells})
    net = next(r for r in runs if r.experiment == "net" and r.seed == 0)
    assert oracle_table(net, runs).rows[1].cells[4] == ("n/a", "")


def test_parts_are_named_in_words():
    assert oracle_words(["boxes"]) == "its boxes"
    assert oracle_words(["semantic", "boxes", "masks"]) == (
        "its semantic map, its boxes and its masks"
    )


# On the pages


@pytest.fixture(scope="module")
def panoptic_lines(site):
    return read(site / "index.html").tables["t-shapes__panoptic__coco-panoptic"]


def test_the_index_names_the_protocol_of_joined_columns(site, results, panoptic_lines):
    heads = {head["data-group"]: head["text"] for head in panoptic_lines[0] if "data-group" in head}
    assert heads["Instances"].split() == ["Instances", "coco-instances"]
    assert heads["Semantic"].split() == ["Semantic", "semantic-pooled"]
    table = json.loads((results / "table.json").read_text(encoding="utf-8"))
    stored = {
        c["task"]: c["record"]["scores"]
        for c in table["cells"]
        if c["experiment"] == "panoptic_fpn"
    }
    keys = [head["data-key"] for head in panoptic_lines[1]]
    (line,) = (row for row in panoptic_lines[2:] if row[1]["data-v"] == "panoptic fpn")
    shown = dict(zip(keys, line, strict=True))
    for key, value in (
        ("coco-instances.box_ap", stored["instance"]["box_ap"]),
        ("coco-instances.ap", stored["instance"]["ap"]),
        ("semantic-pooled.miou", stored["semantic"]["miou"]),
    ):
        assert float(shown[key]["data-v"]) == value
        assert shown[key]["text"].strip().startswith(f"{100 * value:.1f}")
    assert shown["peak_memory_mb"]["text"].startswith("120")
    other = read(site / "index.html").tables["t-shapes__instance__coco-instances"]
    assert "peak_memory_mb" not in [head["data-key"] for head in other[1]]


def test_oracles_are_listed_apart_and_said_to_be_oracles(site, panoptic_lines):
    rows = {row[1]["data-v"]: row for row in panoptic_lines[2:]}
    assert list(rows) == [
        "panoptic fpn", "panoptic fpn, oracle:semantic", "panoptic fpn, oracle:semantic+boxes",
        "oracle",
    ]  # fmt: skip
    for name in list(rows)[1:3]:
        assert rows[name][0]["text"] == "oracle"
        assert "(best)" not in " ".join(each["text"] for each in rows[name])
    page = " ".join((site / "index.html").read_text(encoding="utf-8").split())
    assert page.count("Oracles are predictions of a network above") == 2
    assert '<tbody class="controls oracles">' in page


def test_run_pages_of_network_and_oracles_hold_the_ablation(site, results):
    table = json.loads((results / "table.json").read_text(encoding="utf-8"))
    pages = {run.experiment: site / f"runs/{run.slug}.html" for run in build_runs(table)}
    oracle = pages["panoptic_fpn@oracle-semantic-boxes"].read_text(encoding="utf-8")
    assert f'<a href="{pages["panoptic_fpn"].name}">this network</a>' in oracle
    assert "with the truth in place of its semantic map and its boxes" in oracle
    found = []
    for page in (pages["panoptic_fpn"], pages["panoptic_fpn@oracle-semantic-boxes"]):
        (lines,) = (
            rows
            for rows in read(page).tables.values()
            if rows and [c["text"] for c in rows[0]][:2] == ["Parts", "PQ"]
        )
        found.append([[c["text"] for c in line] for line in lines])
    assert [line[0].removesuffix(" this page") for line in found[0][1:]] == [
        "all parts its own", "oracle:semantic", "oracle:semantic+boxes",
    ]  # fmt: skip
    assert [line[1:] for line in found[0]] == [line[1:] for line in found[1]]
    assert found[0][3][1].startswith("100.0 +")
    assert found[0][3][-1] == "n/a"
    assert "Oracle ablation" not in pages["fcn"].read_text(encoding="utf-8")
