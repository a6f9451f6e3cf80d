import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segbench.report_board import build_boards, reason_of, slug, status_of
from segbench.report_metrics import SCORES, duration
from segbench.report_ranks import Value, mark_of, tie_groups

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


def boards(*cells, tolerance=0.0):
    return build_boards({"cells": cells, "datasets": {}, "models": {}}, tolerance=tolerance)


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
