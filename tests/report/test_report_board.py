import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segbench.evaluation.metrics import SCORES
from segbench.report.board import build_boards
from segbench.report.costs import duration
from segbench.report.rows import reason_of, slug, status_of
from segbench.report.values import Ties, Value, interval_of, mark_of, measured_groups, tie_groups

MIOU = SCORES["semantic"][0]
fractions = st.floats(0, 1, allow_nan=False)


def value(raw, sd=None):
    return Value(MIOU, raw, sd)


def cell(experiment, miou, *, seed=0, kind="trained", protocol="semantic-pooled", **changes):
    scored = miou is not None
    record = {"protocol": protocol, "scores": {"miou": miou}, "num_images": 3, "model": None}
    return {
        "dataset": "d", "experiment": experiment, "seed": seed, "task": "semantic", "split": "val",
        "kind": kind, "display_name": experiment, "status": "ok" if scored else "failed",
        "reason": "" if scored else "it broke", "run_folder": "x", "logs": [], "profile": None,
        "record": record if scored else None, **changes,
    }  # fmt: skip


def boards(*cells, tolerance=0.0, ties=()):
    table = {"cells": cells, "datasets": {}, "models": {}, "ties": ties}
    return build_boards(table, tolerance=tolerance)


def measured(groups, **changes):
    """An entry of the table's ties: group, lowest and highest rank by experiment."""
    keys = ("name", "group", "rank_low", "rank_high")
    rows = [dict(zip(keys, (name, *found), strict=True)) for name, found in groups.items()]
    board = {"dataset": "d", "split": "val", "task": "semantic", "protocol": "semantic-pooled"}
    return {**board, "metric": "miou", "level": 0.95, "rows": rows, **changes}


@given(st.lists(st.one_of(st.none(), fractions), max_size=12), st.floats(0, 0.05))
def test_tie_groups_are_ordered_and_their_leader_is_within_reach(raws, tolerance):
    groups = tie_groups([value(raw) for raw in raws], tolerance=tolerance)
    assert [group is None for group in groups] == [raw is None for raw in raws]
    known = sorted(((g, r) for g, r in zip(groups, raws, strict=True) if g is not None))
    assert sorted({g for g, _ in known}) == list(range(len({g for g, _ in known})))
    for group in {g for g, _ in known}:
        members = [r for g, r in known if g == group]
        below = [r for g, r in known if g > group]
        leader = max(members)
        for raw in members:
            assert leader - raw <= tolerance or MIOU.text(leader) == MIOU.text(raw)
        assert all(raw <= min(members) for raw in below)


@given(st.lists(fractions, min_size=2, max_size=8), st.randoms())
def test_tie_groups_do_not_depend_on_the_order_of_rows(raws, random):
    order = list(range(len(raws)))
    random.shuffle(order)
    straight = tie_groups([value(raw) for raw in raws])
    shuffled = tie_groups([value(raws[i]) for i in order])
    assert shuffled == [straight[i] for i in order]


def test_equal_numbers_on_the_page_tie_and_seed_spread_widens_ties():
    assert tie_groups([value(0.7004), value(0.6996), value(0.69)]) == [0, 0, 1]
    assert tie_groups([value(0.70), value(0.69)]) == [0, 1]
    assert tie_groups([value(0.70, 0.02), value(0.69)]) == [0, 0]
    assert tie_groups([value(0.70), value(0.69)], tolerance=0.01 + 1e-12) == [0, 0]


def test_a_lone_row_gets_no_medal():
    assert mark_of(0, [0]) == ""
    assert [mark_of(g, [0, 1, 2, None]) for g in (0, 1, 2, None)] == ["best", "second", "", ""]


def test_seeds_become_mean_and_sample_deviation():
    found = [0.61, 0.67, 0.64]
    (board,) = boards(*(cell("a", v, seed=i) for i, v in enumerate(found)))
    (row,) = board.rows
    assert row.values["miou"].raw == pytest.approx(sum(found) / 3)
    assert row.values["miou"].sd == pytest.approx(statistics.stdev(found))
    assert row.seeds == (0, 1, 2)
    assert board.has_spread


def test_ranks_count_rows_and_ties_share_one():
    (board,) = boards(cell("low", 0.1), cell("b", 0.5), cell("a", 0.5), cell("broken", None))
    assert [(r.experiment, r.rank, r.tied) for r in board.rows] == [
        ("a", 1, True), ("b", 1, True), ("low", 3, False), ("broken", None, False),
    ]  # fmt: skip
    assert [r.values["miou"].mark for r in board.rows] == ["best", "best", "second", ""]


PLANTED = {"a": (0, 1, 2), "b": (0, 1, 3), "c": (1, 2, 3), "d": (2, 4, 4)}


def test_measured_ties_share_a_rank_and_distinct_rows_do_not():
    cells = [cell("d", 0.3999), cell("c", 0.4), cell("b", 0.52), cell("a", 0.6)]
    (board,) = boards(*cells, ties=[measured(PLANTED)])
    assert [(r.experiment, r.rank, r.tied, r.ranks) for r in board.rows] == [
        ("a", 1, True, (1, 2)), ("b", 1, True, (1, 3)), ("c", 3, False, (2, 3)),
        ("d", 4, False, (4, 4)),
    ]  # fmt: skip
    assert [r.values["miou"].mark for r in board.rows] == ["best", "best", "second", ""]
    assert board.ties.level_text == "95\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(
    "entry",
    [
        measured(PLANTED, protocol="other"),
        measured(PLANTED, split="test"),
        measured({k: v for k, v in PLANTED.items() if k != "d"}),
        measured({**PLANTED, "gone": (2, 4, 5)}),
    ],
)
def test_ties_of_another_board_or_of_other_rows_are_not_used(entry):
    cells = [cell("a", 0.6), cell("b", 0.52), cell("c", 0.4), cell("d", 0.3999)]
    (board,) = boards(*cells, ties=[entry])
    assert board.ties is None
    assert [(r.rank, r.tied, r.ranks) for r in board.rows] == [
        (1, False, None), (2, False, None), (3, True, None), (3, True, None),
    ]  # fmt: skip


def test_unscored_rows_and_controls_do_not_disturb_measured_ties():
    cells = [cell("a", 0.6), cell("b", 0.5), cell("broken", None), cell("o", 1.0, kind="control")]
    (board,) = boards(*cells, ties=[measured({"a": (0, 1, 2), "b": (0, 1, 2)})])
    assert [(r.experiment, r.rank, r.ranks) for r in board.rows] == [
        ("a", 1, (1, 2)), ("b", 1, (1, 2)), ("broken", None, None),
    ]  # fmt: skip
    assert board.controls[0].ranks is None


def test_a_tolerance_joins_groups_that_were_measured_apart():
    ties = Ties(0.95, {"a": 0, "b": 1, "c": 1}, {})
    values = [value(0.7), value(0.69), value(0.5)]
    assert measured_groups("abc", values, ties) == [0, 1, 1]
    assert measured_groups("abc", values, ties, tolerance=0.02) == [0, 0, 1]
    assert measured_groups("abc", [value(0.7), value(None), value(0.5)], ties) == [0, None, 1]


def test_one_run_shows_its_interval_and_a_mean_over_seeds_none():
    ends = {"low": 0.4712, "high": 0.5488, "level": 0.9, "method": "bca", "resamples": 800}
    cells = [cell(name, 0.5, seed=seed) for name, seed in (("one", 0), ("two", 0), ("two", 1))]
    for each in cells:
        each["record"]["intervals"] = {"miou": ends}
    (board,) = boards(*cells)
    found = {row.experiment: row.values["miou"].interval for row in board.rows}
    assert found["two"] is None
    assert found["one"].ends == ("47.1", "54.9")
    assert (found["one"].method, found["one"].resamples) == ("BCa bootstrap", 800)
    assert board.intervals == ["90\N{NO-BREAK SPACE}%"]


@pytest.mark.parametrize("found", [{}, {"intervals": {}}, {"intervals": {"miou": {"low": None}}}])
def test_a_record_without_an_interval_shows_none(found):
    assert interval_of(found, MIOU) is None


def test_a_board_says_why_a_run_has_no_interval():
    cells = [cell("one", 0.5), cell("two", 0.4)]
    reason = "too few images a class: 1 of 9 classes are on 10 images or more, 3 are needed"
    cells[0]["record"]["intervals"] = {"miou": {"low": None, "high": None, "reason": reason}}
    (board,) = boards(*cells)
    found = {row.experiment: row.values["miou"] for row in board.rows}
    assert (found["one"].interval, found["one"].no_interval) == (None, reason)
    assert found["two"].no_interval is None
    assert board.without_interval == [reason]


def test_controls_are_listed_but_never_ranked():
    (board,) = boards(cell("net", 0.5), cell("worse", 0.4), cell("oracle", 1.0, kind="control"))
    assert [r.experiment for r in board.controls] == ["oracle"]
    assert board.controls[0].rank is None and board.controls[0].values["miou"].mark == ""
    assert board.rows[0].values["miou"].mark == "best"


def test_rows_under_different_protocols_never_share_a_board():
    found = boards(cell("a", 0.5), cell("b", 0.6, protocol="other"))
    assert [b.protocol for b in found] == ["other", "semantic-pooled"]
    assert all(len(b.rows) == 1 and b.rows[0].values["miou"].mark == "" for b in found)


def test_a_failed_cell_joins_the_board_of_its_siblings():
    (board,) = boards(cell("a", 0.5), cell("b", None))
    assert board.rows[-1].status == "failed"


def test_a_score_without_a_record_is_a_failure():
    broken = cell("a", 0.5, record=None)
    assert status_of(broken) == "failed"
    assert "record is missing" in reason_of(broken)


def test_null_is_shown_as_missing_and_never_as_zero():
    (board,) = boards(cell("a", 0.5), cell("b", 0.0))
    nothing = value(None)
    assert (nothing.text, board.rows[1].values["miou"].text) == ("n/a", "0.0")
    assert MIOU.text(math.nan) == "n/a"


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_slugs_are_safe_file_names_and_tell_names_apart(a, b):
    assert slug(*a).isascii() and not set(slug(*a)) & set("/\\ <>:\"|?*#%&'")
    assert slug(*a)[0] not in ".-" and len(slug(*a)) < 100
    if "__".join(a) != "__".join(b):
        assert slug(*a) != slug(*b)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "n/a"),
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (750, "12 min 30 s"),
        (11100, "3 h 05 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
