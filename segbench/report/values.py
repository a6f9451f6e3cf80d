"""Values with their spread over seeds and images, and ranks that admit ties."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from segbench.evaluation.metrics import Metric

Mark = Literal["", "best", "second"]


METHODS = {
    "bca": "BCa bootstrap",
    "percentile": "percentile bootstrap",
    "student": "t interval from bootstrap and jackknife, without the bias of few images a class",
}


@dataclass(frozen=True)
class ScoreInterval:
    """Where a score may lie for other images of the same kind; ``low`` and ``high`` as stored."""

    metric: Metric
    low: float
    high: float
    level: float
    method: str
    resamples: int

    @property
    def ends(self) -> tuple[str, str]:
        return self.metric.text(self.low), self.metric.text(self.high)

    @property
    def level_text(self) -> str:
        return percent_text(self.level)


def interval_of(record: Mapping[str, Any], metric: Metric) -> ScoreInterval | None:
    """Return the interval of a record's score; None where the record holds none."""
    found = (record.get("intervals") or {}).get(metric.key) or {}
    if found.get("low") is None or found.get("high") is None:
        return None
    method = METHODS.get(found["method"], str(found["method"]))
    ends = float(found["low"]), float(found["high"])
    return ScoreInterval(metric, *ends, found["level"], method, found["resamples"])


def no_interval_of(record: Mapping[str, Any], metric: Metric) -> str | None:
    """Return why a record holds no interval of a score; None where it holds one or says nothing."""
    found = (record.get("intervals") or {}).get(metric.key) or {}
    return None if found.get("low") is not None else found.get("reason")


def percent_text(level: float) -> str:
    """Return a level such as 0.95 as ``95 %``, with a space that does not break."""
    return f"{100 * level:g}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Value:
    """One number of a row as it is shown; ``raw`` is the mean over seeds, as stored.

    ``interval`` is that of one run: a mean over seeds has none; ``no_interval``: why it has none.
    """

    metric: Metric
    raw: float | None = None
    sd: float | None = None
    count: int = 0
    mark: Mark = ""
    interval: ScoreInterval | None = None
    no_interval: str | None = None

    @property
    def text(self) -> str:
        return self.metric.text(self.raw)

    @property
    def sd_text(self) -> str:
        return "" if self.sd is None else self.metric.text(self.sd)

    @property
    def percent(self) -> float:
        """Length of the bar behind a score, 0 to 100."""
        return round(100 * min(max(self.raw or 0.0, 0.0), 1.0), 1)


def value_of(metric: Metric, found: Iterable[float | None], *, spread: bool = True) -> Value:
    """Return the mean of the numbers that are there, with their standard deviation."""
    numbers = [float(number) for number in found if number is not None]
    if not numbers:
        return Value(metric)
    sd = statistics.stdev(numbers) if spread and len(numbers) > 1 else None
    return Value(metric, statistics.fmean(numbers), sd, len(numbers))


def tie_groups(values: Sequence[Value], *, tolerance: float = 0.0) -> list[int | None]:
    """Return the tie group of each value, 0 for the best; None where there is no value.

    A value joins the group of the best value above it that it cannot be told from: both
    are shown as the same number, or they differ by no more than ``tolerance`` or the
    larger of their two standard deviations over seeds.
    """
    order = sorted(
        (i for i, value in enumerate(values) if value.raw is not None),
        key=lambda i: (values[i].raw or 0.0) * (-1 if values[i].metric.higher_is_better else 1),
    )
    groups: list[int | None] = [None] * len(values)
    leader: Value | None = None
    group = -1
    for index in order:
        if leader is None or not _tied(leader, values[index], tolerance):
            leader, group = values[index], group + 1
        groups[index] = group
    return groups


def _tied(leader: Value, value: Value, tolerance: float) -> bool:
    difference = abs((leader.raw or 0.0) - (value.raw or 0.0))
    margin = max(tolerance, leader.sd or 0.0, value.sd or 0.0)
    return leader.text == value.text or difference <= margin


@dataclass(frozen=True)
class Ties:
    """Which rows of a board the images cannot tell apart, by experiment.

    ``groups``: 0 for the best. ``ranks``: the lowest and highest rank a row may have.
    """

    level: float
    groups: Mapping[str, int]
    ranks: Mapping[str, tuple[int, int]]

    @property
    def level_text(self) -> str:
        return percent_text(self.level)


def find_ties(table: Mapping[str, Any], board: Mapping[str, str], names: set[str]) -> Ties | None:
    """Return the tie groups that a table holds of a board.

    Args:
        table: Content of ``table.json``.
        board: Its dataset, task, split and protocol.
        names: The scored experiments of the board; ties of other rows are of no use.
    """
    for entry in table.get("ties") or ():
        rows = {row["name"]: row for row in entry["rows"]}
        if all(entry[key] == value for key, value in board.items()) and set(rows) == names:
            ranks = {name: (row["rank_low"], row["rank_high"]) for name, row in rows.items()}
            groups = {name: row["group"] for name, row in rows.items()}
            return Ties(float(entry.get("level", 0.95)), groups, ranks)
    return None


def measured_groups(
    names: Sequence[str], values: Sequence[Value], ties: Ties, *, tolerance: float = 0.0
) -> list[int | None]:
    """Return the tie group of each row, 0 for the best, as measured and within a tolerance.

    Args:
        names: Experiments, one a value.
        values: Their headline scores.
        ties: Of the same experiments.
        tolerance: Rows this close to the best of their group join it all the same.
    """
    groups: list[int | None] = [None] * len(values)
    scored = [i for i, value in enumerate(values) if value.raw is not None]
    leader, group = -1, -1
    for i in sorted(scored, key=lambda i: (ties.groups[names[i]], -(values[i].raw or 0.0))):
        close = group >= 0 and (
            ties.groups[names[i]] == ties.groups[names[leader]]
            or (values[leader].raw or 0.0) - (values[i].raw or 0.0) <= tolerance > 0
        )
        if not close:
            leader, group = i, group + 1
        groups[i] = group
    return groups


def mark_of(group: int | None, groups: Sequence[int | None]) -> Mark:
    """Return how a tie group is marked; a lone row is not marked."""
    ranked = [g for g in groups if g is not None]
    if group is None or len(ranked) < 2:
        return ""
    return "best" if group == 0 else "second" if group == 1 else ""


def worst_first(score: float | None) -> tuple[bool, float]:
    """Return the sorting key that puts low scores first and missing ones last."""
    return score is None, score or 0.0
