"""Values with their spread over seeds, and ranks that admit ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segbench.report_metrics import Metric

Mark = Literal["", "best", "second"]


@dataclass(frozen=True)
class Value:
    """One number of a row as it is shown; ``raw`` is the mean over seeds, as stored."""

    metric: Metric
    raw: float | None = None
    sd: float | None = None
    count: int = 0
    mark: Mark = ""

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


def mark_of(group: int | None, groups: Sequence[int | None]) -> Mark:
    """Return how a tie group is marked; a lone row is not marked."""
    ranked = [g for g in groups if g is not None]
    if group is None or len(ranked) < 2:
        return ""
    return "best" if group == 0 else "second" if group == 1 else ""


def worst_first(score: float | None) -> tuple[bool, float]:
    """Return the sorting key that puts low scores first and missing ones last."""
    return score is None, score or 0.0
