"""Rows of a leaderboard: one experiment over all its seeds, with its scores and costs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segbench.core.types import UNRANKED
from segbench.evaluation.metrics import Metric
from segbench.report.costs import COSTS, MEMORY, duration, input_size
from segbench.report.reported import submitted
from segbench.report.values import Value, interval_of, no_interval_of, value_of

Cell = Mapping[str, Any]
STATUS_WORDS = {
    "ok": "scored",
    "foreign": "foreign",
    "damaged": "damaged",
    "failed": "failed",
    "running": "running",
    "not_run": "not run",
}
"""Every status of a cell, from the one that stands highest on a board to the lowest."""


def slug(*parts: object) -> str:
    """Return a file name of ASCII letters that differs whenever the parts differ."""
    plain = "__".join(str(part) for part in parts)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "x"
    if safe == plain and len(safe) <= 80:
        return safe
    digest = hashlib.sha256("\0".join(str(p) for p in parts).encode()).hexdigest()[:8]
    return f"{safe[:80]}-{digest}"


@dataclass(frozen=True)
class Row:
    """One experiment on one board, over all its seeds."""

    experiment: str
    name: str
    kind: str
    status: str
    cells: tuple[Cell, ...]
    model: Mapping[str, Any]
    values: Mapping[str, Value]
    rank: int | None = None
    tied: bool = False
    ranks: tuple[int, int] | None = None
    """The ranks the row may have, where that was measured."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(cell["seed"]) for cell in self.cells)

    @property
    def run(self) -> Cell:
        """The cell that stands for the row: the first scored seed, else the first."""
        return next((c for c in self.cells if status_of(c) == "ok"), self.cells[0])

    @property
    def of(self) -> str:
        """The experiment whose network predicted; another one than its own for oracles."""
        return str((self.cells[0].get("oracle") or {}).get("of") or self.experiment)

    @property
    def unscored(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if status_of(cell) != "ok")

    @property
    def train_time(self) -> Value:
        return self.values["train"]

    def condition(self, cost: str) -> str:
        """Return under what conditions a cost was measured: input size, device, precision, how."""
        profile = self.run.get("profile") or {}
        if cost == "params" or profile.get(cost) is None:
            return ""
        parts = [input_size(profile)]
        if cost == "latency_ms":
            parts += [_short(profile.get("device")), str(profile.get("precision") or "")]
        if cost == "peak_memory_mb":
            parts.append(str(profile.get("memory") or ""))
        return ", ".join(part for part in parts if part)


def _short(device: Any) -> str:
    """Return the name of a device without what every processor's name has."""
    return re.sub(r"\((?:R|TM)\)| (?:Processor|CPU)\b", "", str(device or ""))


TRAIN_TIME = Metric("train", "Train time", "wall time of training", "Cost", 1.0, 0, False)


def status_of(cell: Cell) -> str:
    """Return the status of a cell; one that claims a score without a record has failed."""
    return "failed" if cell["status"] == "ok" and not cell.get("record") else str(cell["status"])


def reason_of(cell: Cell) -> str:
    """Return why a cell has no score, in words."""
    if cell["status"] == "ok":
        return "it is marked as scored, but its record is missing"
    return str(cell.get("reason") or "no reason was recorded")


def row_of(cells: Sequence[Cell], metrics: Sequence[Metric], models: Mapping[str, Any]) -> Row:
    """Return the row of one experiment on one board; its rank is not known yet.

    Args:
        cells: The cells of its seeds.
        metrics: The score columns, the headline score first.
        models: Registry entries by model id.
    """
    cells = sorted(cells, key=lambda cell: int(cell["seed"]))
    scored = [cell for cell in cells if status_of(cell) == "ok"]
    states = {status_of(cell) for cell in cells}
    status = next((status for status in STATUS_WORDS if status in states), "not_run")
    values = {
        m.key: value_of(m, [c["record"]["scores"].get(m.key) for c in scored]) for m in metrics
    }
    if len(scored) == 1:
        record, first = scored[0]["record"], metrics[0]
        interval, none = interval_of(record, first), no_interval_of(record, first)
        values[first.key] = replace(values[first.key], interval=interval, no_interval=none)
    profiles = [cell["profile"] for cell in cells if cell.get("profile")]
    for metric in (*COSTS, MEMORY):
        costs = [profile.get(metric.key) for profile in profiles]
        values[metric.key] = value_of(metric, costs, spread=False)
    trained = [c for c in scored if c["kind"] not in UNRANKED]
    values["train"] = value_of(TRAIN_TIME, [_train_seconds(c) for c in trained], spread=False)
    return Row(
        experiment=cells[0]["experiment"],
        name=str(cells[0].get("display_name") or cells[0]["experiment"]),
        kind=cells[0]["kind"],
        status=status,
        cells=tuple(cells),
        model=model_entry(models, _model_id(cells)) | submitted(cells[0], metrics, values),
        values=values,
    )


def model_entry(models: Mapping[str, Any], model_id: str) -> dict[str, Any]:
    """Return a model's registry entry; unknown models and controls have empty fields."""
    return {"paper": "", "year": None, "backbone": "", "deep": True, **(models.get(model_id) or {})}


def paper_text(model: Mapping[str, Any]) -> str:
    """Return a model's paper with its year, unless the paper names the year itself."""
    paper, year = str(model["paper"] or ""), str(model["year"] or "")
    return paper if not year or year in paper else f"{paper} ({year})".strip()


def _model_id(cells: Sequence[Cell]) -> str:
    named = [c.get("model") or (c.get("record") or {}).get("model") for c in cells]
    return next((str(name) for name in named if name), "")


def _train_seconds(cell: Cell) -> float | None:
    seconds = cell["record"].get("provenance", {}).get("wall_time_s", {}).get("train")
    return None if seconds is None else float(seconds)


def train_text(row: Row) -> str:
    """Return the mean training time of a row in words."""
    return duration(row.train_time.raw)
