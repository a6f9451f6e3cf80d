"""Why tools disagree: the predictions of one run under the rules of all tools, ready to show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from segbench.evaluation.metrics import MISSING, Metric
from segbench.report.rows import Cell

_SCORE = Metric("miou", "mIoU", "", decimals=2)


@dataclass(frozen=True)
class RuleRow:
    """The scores under one rule; ``differs`` says what it decides unlike the board's rule."""

    rule: str
    others: tuple[str, ...]
    miou: str
    change: str
    accuracy: str
    classes: str
    differs: tuple[str, ...]
    note: str
    own: bool


@dataclass(frozen=True)
class RuleTable:
    """``rows``: the board's own rule first, then by mIoU, those without a value last."""

    rows: tuple[RuleRow, ...]
    causes: tuple[str, ...]
    command: str

    @property
    def spread(self) -> str:
        """The lowest and the highest mIoU, where they differ as shown."""
        known = sorted({row.miou for row in self.rows if row.miou != MISSING}, key=float)
        return f"{known[0]} to {known[-1]}" if len(known) > 1 else ""


def rule_table(cell: Cell, table: Mapping[str, Any]) -> RuleTable | None:
    """Return the table of a cell; None where its record has no scores under other rules.

    Args:
        cell: A scored cell.
        table: The report's input, which names the results folder and the classes.
    """
    stored = cell["record"].get("rules")
    if not stored:
        return None
    rows: Sequence[Mapping[str, Any]] = stored["rows"]
    own = next((row for row in rows if cell["record"]["protocol"] in row["used_by"]), None)
    ordered = sorted(
        rows, key=lambda row: (row is not own, row["miou"] is None, -(row["miou"] or 0))
    )
    return RuleTable(
        tuple(_row(row, own, cell["record"]["protocol"]) for row in ordered),
        tuple(stored["causes"]),
        _command(cell, table),
    )


def _row(row: Mapping[str, Any], own: Mapping[str, Any] | None, protocol: str) -> RuleRow:
    base = own["choices"] if own else ()
    differs = tuple(choice for choice in row["choices"] if choice not in base)
    name = protocol if row is own else str(row["rule"])
    return RuleRow(
        rule=name,
        others=tuple(other for other in row["used_by"] if other != name),
        miou=_SCORE.text(row["miou"]),
        change=_change(row["miou"], own["miou"] if own and own is not row else None),
        accuracy=_SCORE.text(row["pixel_accuracy"]),
        classes=MISSING if row["classes_in_mean"] is None else str(row["classes_in_mean"]),
        differs=differs,
        note=row["note"],
        own=row is own,
    )


def _change(value: float | None, base: float | None) -> str:
    if value is None or base is None:
        return ""
    points = round(100 * (value - base), 2)
    return "same" if points == 0 else f"{points:+.2f}"


def _command(cell: Cell, table: Mapping[str, Any]) -> str:
    """Return the command that shows the same and each class, for the folder segbench runs in."""
    results = PurePosixPath(str(table.get("results", "results")))
    classes = len((table["datasets"].get(cell["dataset"]) or {}).get("categories", ()))
    truth = results / "data" / cell["dataset"] / "semantic" / cell["split"]
    prediction = results / cell["run_folder"] / "predictions" / cell["split"] / "semantic"
    words = ["segbench", "explain", "--gt", truth, "--pred", prediction, "--num-classes", classes]
    return shlex.join(str(word) for word in words)
