"""Which rows of a board share a rank: all pairs compared at once, errors counted as a family.

M rows, R resamples. With twenty equal rows, one pair in twenty would look different at 95 %.
Here the chance that *any* pair without a real difference is called separable is at most
1 - level: the largest of all studentised differences is resampled with the images (max-T),
stepping down past the pairs already found (Romano and Wolf 2005).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from segbench.core.types import BoolArray, FloatArray
from segbench.evaluation.protocol import Protocol
from segbench.statistics.bootstrap import tail_of
from segbench.statistics.draws import LEVEL, RESAMPLES, SEED, Draws, Runs, draws, refuse_few

_EQUAL = 1e-12
"""Scores this close differ by rounding alone."""


@dataclass(frozen=True)
class TiedRow:
    """One row of a board.

    ``group``: 0 for the best; rows of a group are not separable from its best row.
    ``rank_low`` to ``rank_high``: ranks the row may have, from 1: above are the rows that are
    separably better, below those that are separably worse. ``p_best``: family-wise p of the
    difference from the best row, None for that row itself.
    """

    name: str
    estimate: float
    group: int
    rank_low: int
    rank_high: int
    p_best: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def tie_groups(
    rows: Mapping[str, Runs],
    protocol: Protocol,
    metric: str,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[TiedRow]:
    """Rank rows by a score, best first, with ties.

    Args:
        rows: Counts of each row; a sequence of counts is the mean over its seeds.
        protocol: How counts become scores.
        metric: See ``segbench.evaluation.resampled.statistic``; more is better.
        level: 1 - level bounds the chance of any false separation.
        resamples: How many times images are drawn.
        seed: Of the draws.

    Raises:
        DataError: Images or truths differ between rows, there are too few images, all in all
            or of most classes, or a row has no value.
    """
    if not rows:
        return []
    refuse_few(rows, protocol, metric)
    drawn = draws(rows, protocol, metric, resamples=resamples, seed=seed)
    p = pairwise_p(drawn)
    order = np.argsort(-drawn.estimates, kind="stable")
    apart = p[np.ix_(order, order)] <= 1 - level
    groups, number = _groups(apart), len(order)
    return [
        TiedRow(
            drawn.names[i],
            float(drawn.estimates[i]),
            groups[place],
            1 + int(apart[place, :place].sum()),
            number - int(apart[place, place + 1 :].sum()),
            float(p[i, order[0]]) if place else None,
        )
        for place, i in enumerate(order.tolist())
    ]


def _groups(apart: BoolArray) -> list[int]:
    """Return the group of each row, best first; a group ends at a row apart from its best."""
    leader, group, groups = 0, 0, []
    for place in range(len(apart)):
        if apart[leader, place]:
            leader, group = place, group + 1
        groups.append(group)
    return groups


def pairwise_p(drawn: Draws) -> FloatArray:
    """Return family-wise p of every pair of rows [M, M], 1 on the diagonal.

    A pair's statistic is the difference over its bootstrap standard deviation. Its p is the
    share of resamples whose largest centred statistic, over this pair and all that are less
    apart, reaches it. Of few images the statistic is taken down from t to normal quantiles.
    """
    number = len(drawn.estimates)
    result = np.ones((number, number))
    largest = np.zeros(len(drawn.values))
    pairs = []
    for first, second, observed, null in _ascending(drawn):
        np.maximum(largest, null, out=largest)
        reached = np.count_nonzero(largest >= observed) if observed > 0 else len(largest)
        pairs.append((first, second, (1 + reached) / (1 + len(largest))))
    highest = 0.0
    for first, second, p in reversed(pairs):
        highest = max(highest, p)
        result[first, second] = result[second, first] = highest
    return result


def _ascending(drawn: Draws) -> Iterator[tuple[int, int, float, FloatArray]]:
    """Yield pairs from the least apart up: rows, statistic, its centred resamples [R]."""
    first, second = np.triu_indices(len(drawn.estimates), 1)
    difference = drawn.estimates[first] - drawn.estimates[second]
    spread = np.array(
        [
            np.std(_difference(drawn, i, j), ddof=1)
            for i, j in zip(first.tolist(), second.tolist(), strict=True)
        ]
    )
    difference[np.abs(difference) < _EQUAL] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        quantile = np.where(difference == 0, 0.0, -np.abs(difference) / spread)
    observed = -ndtri(tail_of(quantile, drawn.images))
    for pair in np.argsort(observed, kind="stable").tolist():
        i, j = int(first[pair]), int(second[pair])
        centred = np.abs(_difference(drawn, i, j) - difference[pair])
        null = centred / spread[pair] if spread[pair] > _EQUAL else np.zeros(len(centred))
        yield i, j, float(observed[pair]), null


def _difference(drawn: Draws, first: int, second: int) -> FloatArray:
    values: FloatArray = drawn.values[:, first] - drawn.values[:, second]
    return values
