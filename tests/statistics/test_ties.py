"""Tie groups: planted ties, the family-wise error rate, a plain version of max-T."""

import itertools

import numpy as np
import pytest
from scipy import stats as distributions

from segbench.core.errors import DataError
from segbench.evaluation.protocol import get_protocol
from segbench.statistics import comparison as stats
from segbench.statistics.ties import pairwise_p, tie_groups
from tests.statistics.made_counts import from_tables

POOLED = get_protocol("semantic-pooled")


def board(skills, *, seed=0, images=80, pixels=400):
    """Rows on images of one difficulty each; a row's skill shifts its accuracy."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(0.5, 0.7, images)
    rows = {}
    for place, skill in enumerate(skills):
        right = rng.binomial(pixels, np.clip(hard + skill, 0, 1))
        tables = np.zeros((images, 3, 3), dtype=np.int64)
        tables[:, 0, 0], tables[:, 0, 1] = right, pixels - right
        rows[f"row{place}"] = {"semantic": from_tables(tables)}
    return rows


def groups_of(rows, **options):
    return {row.name: row.group for row in tie_groups(rows, POOLED, "pixel_accuracy", **options)}


def test_planted_ties_share_a_group():
    found = tie_groups(board([0.1, 0.0, 0.1, 0.0, 0.2]), POOLED, "pixel_accuracy")
    assert {row.name: row.group for row in found} == {
        "row4": 0, "row0": 1, "row2": 1, "row1": 2, "row3": 2,
    }  # fmt: skip
    assert [(row.rank_low, row.rank_high) for row in found] == [
        (1, 1), (2, 3), (2, 3), (4, 5), (4, 5),
    ]  # fmt: skip
    assert found[0].p_best is None
    assert all(row.p_best <= 0.05 for row in found[1:])
    assert [row.estimate for row in found] == sorted((r.estimate for r in found), reverse=True)


def test_copies_of_one_run_are_tied_and_have_p_1():
    one = board([0.0])["row0"]
    found = tie_groups({"a": one, "b": one, "c": one}, POOLED, "pixel_accuracy")
    assert [(row.name, row.group, row.rank_low, row.rank_high) for row in found] == [
        ("a", 0, 1, 3), ("b", 0, 1, 3), ("c", 0, 1, 3),
    ]  # fmt: skip
    assert [row.p_best for row in found] == [None, 1.0, 1.0]


def test_twelve_equal_rows_are_one_group_19_times_in_20():
    """66 pairs; without a correction nearly every board would show a false difference."""
    boards, corrected, plain = 300, 0, 0
    for seed in range(boards):
        rows = board([0.0] * 12, seed=seed, images=60)
        drawn = stats.draws(rows, POOLED, "pixel_accuracy", resamples=500, seed=seed // 30)
        corrected += bool((pairwise_p(drawn) <= 0.05).any())
        best, worst = drawn.estimates.argmax(), drawn.estimates.argmin()
        difference = np.sort(drawn.values[:, best] - drawn.values[:, worst])
        plain += bool(difference[12] > 0)
    assert corrected / boards <= 0.08
    assert plain / boards > 0.5


def test_p_is_step_down_max_t():
    drawn = stats.draws(board([0.0, 0.01, 0.02, 0.02]), POOLED, "pixel_accuracy", resamples=300)
    pairs = list(itertools.combinations(range(4), 2))
    d = np.array([drawn.estimates[i] - drawn.estimates[j] for i, j in pairs])
    star = np.stack([drawn.values[:, i] - drawn.values[:, j] for i, j in pairs], axis=1)
    spread = star.std(axis=0, ddof=1)
    null = np.abs(star - d) / spread
    tail = distributions.t.sf(np.abs(d) / spread * np.sqrt(79 / 80), 79)
    observed = distributions.norm.isf(tail)
    left, before = set(range(6)), 0.0
    found = pairwise_p(drawn)
    for pair in np.argsort(-observed):
        reached = (null[:, sorted(left)].max(axis=1) >= observed[pair]).sum()
        before = max(before, (1 + reached) / 301)
        assert found[pairs[pair]] == pytest.approx(before)
        left.remove(pair)


def test_seeds_of_a_row_are_averaged():
    rows = board([0.1, 0.1, 0.0, 0.0])
    seeds = {"a": [rows["row0"], rows["row1"]], "b": [rows["row2"], rows["row3"]]}
    assert groups_of(seeds) == {"a": 0, "b": 1}


def test_one_row_none_and_rows_of_other_images():
    rows = board([0.0, 0.1])
    assert tie_groups({}, POOLED, "miou") == []
    assert groups_of({"only": rows["row0"]}) == {"only": 0}
    other = {"semantic": rows["row1"]["semantic"].subset(range(1, 60))}
    with pytest.raises(DataError, match="'row0' and 'short' were scored on different images"):
        tie_groups({"row0": rows["row0"], "short": other}, POOLED, "miou")


def test_order_of_rows_does_not_matter():
    rows = board([0.03, 0.0, 0.02, 0.01])
    turned = dict(reversed(rows.items()))
    assert groups_of(rows) == groups_of(turned)
