"""What a submitted row says of itself: its paper and the scores stated there, beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segbench.evaluation.metrics import Metric
from segbench.report.values import Value


def submitted(
    cell: Mapping[str, Any], metrics: Sequence[Metric], values: Mapping[str, Value]
) -> dict[str, Any]:
    """Return the facts of a submission that take the place of a registry entry's.

    Args:
        cell: A cell of the row; other kinds of rows give an empty dict.
        metrics: The score columns of the board.
        values: Our scores by metric, as fractions.
    """
    facts = cell.get("submission")
    if not facts:
        return {}
    notes = [
        _note(metric, facts["reported"][metric.key], values[metric.key].raw)
        for metric in metrics
        if metric.key in facts["reported"]
    ]
    return {"paper": facts["paper"], "year": facts["year"], "note": "; ".join(notes)}


def _note(metric: Metric, reported: float, ours: float | None) -> str:
    stated = f"reported {metric.label} {reported:.{metric.decimals}f}"
    if ours is None:
        return stated
    return f"{stated}, here {metric.scale * ours - reported:+.{metric.decimals}f}"
