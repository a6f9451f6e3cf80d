"""Leaderboards as data: grouping, seeds, ranks with ties, reasons for what has no number.

A board holds the rows of one (dataset, task, split, protocol); only rows of one board are
ever compared. Controls are listed, never ranked.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from segbench.report_metrics import (
    COSTS,
    MISSING,
    Metric,
    duration,
    input_size,
    metrics_of,
    primary,
)
from segbench.report_ranks import Value, mark_of, tie_groups
from segbench.types import TASKS

Cell = Mapping[str, Any]
STATUS_WORDS = {"ok": "scored", "failed": "failed", "not_run": "not run"}


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

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(cell["seed"]) for cell in self.cells)

    @property
    def run(self) -> Cell:
        """The cell that stands for the row: the first scored seed, else the first."""
        return next((c for c in self.cells if status_of(c) == "ok"), self.cells[0])

    @property
    def unscored(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if status_of(cell) != "ok")

    @property
    def train_time(self) -> Value:
        return self.values["train"]

    def condition(self, cost: str) -> str:
        """Return under what conditions a cost was measured: input size, device, precision."""
        profile = self.run.get("profile") or {}
        if cost == "params" or profile.get(cost) is None:
            return ""
        parts = [input_size(profile)]
        if cost == "latency_ms":
            parts += [str(profile.get(key) or "") for key in ("device", "precision")]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Board:
    """The comparable rows of one dataset, task, split and protocol."""

    dataset: str
    task: str
    split: str
    protocol: str
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    controls: tuple[Row, ...]
    id: str = field(default="")

    @property
    def groups(self) -> list[tuple[str, list[Metric]]]:
        """Score columns under their group headings, in column order."""
        found: dict[str, list[Metric]] = {}
        for metric in self.metrics:
            found.setdefault(metric.group, []).append(metric)
        return list(found.items())

    @cached_property
    def conditions(self) -> dict[str, list[str]]:
        """The different measuring conditions of each cost on this board."""
        rows = (*self.rows, *self.controls)
        found = {m.key: dict.fromkeys(row.condition(m.key) for row in rows) for m in COSTS}
        return {key: [text for text in texts if text] for key, texts in found.items()}

    @property
    def primary(self) -> Metric:
        return primary(self.task)

    @property
    def scored(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.status == "ok")

    @cached_property
    def has_spread(self) -> bool:
        return any(v.sd is not None for r in self.rows for v in r.values.values())

    @property
    def num_images(self) -> int | None:
        found = [c["record"]["num_images"] for r in self.scored for c in r.cells if c["record"]]
        return max(found, default=None)


TRAIN_TIME = Metric("train", "Train time", "wall time of training", "Cost", 1.0, 0, False)


def status_of(cell: Cell) -> str:
    """Return the status of a cell; one that claims a score without a record has failed."""
    return "failed" if cell["status"] == "ok" and not cell.get("record") else str(cell["status"])


def reason_of(cell: Cell) -> str:
    """Return why a cell has no score, in words."""
    if cell["status"] == "ok":
        return "it is marked as scored, but its record is missing"
    return str(cell.get("reason") or "no reason was recorded")


def build_boards(table: Mapping[str, Any], *, tolerance: float = 0.0) -> list[Board]:
    """Group the cells of a table into boards: datasets as they come, tasks in a fixed order.

    Args:
        table: Content of ``table.json``.
        tolerance: Fraction by which two scores may differ and still tie.
    """
    groups: dict[tuple[str, str, str, str], list[Cell]] = {}
    for cell in table["cells"]:
        key = (cell["dataset"], cell["task"], cell["split"], _protocol(cell, table))
        groups.setdefault(key, []).append(cell)
    order: dict[str, int] = {task: position for position, task in enumerate(TASKS)}
    datasets = list(dict.fromkeys(cell["dataset"] for cell in table["cells"]))
    keys = sorted(groups, key=lambda k: (datasets.index(k[0]), order.get(k[1], 9), k[2], k[3]))
    return [_board(key, groups[key], table["models"], tolerance) for key in keys]


def _protocol(cell: Cell, table: Mapping[str, Any]) -> str:
    if cell.get("record"):
        return str(cell["record"]["protocol"])
    siblings = [
        c["record"]["protocol"]
        for c in table["cells"]
        if c.get("record") and all(c[k] == cell[k] for k in ("dataset", "task", "split"))
    ]
    stated = table["datasets"].get(cell["dataset"], {}).get("protocols", {}).get(cell["task"])
    return str(stated if stated or not siblings else min(siblings))


def _board(
    key: tuple[str, str, str, str], cells: Sequence[Cell], models: Mapping[str, Any], tol: float
) -> Board:
    dataset, task, split, protocol = key
    metrics = _present_metrics(task, cells)
    by_experiment: dict[str, list[Cell]] = {}
    for cell in cells:
        by_experiment.setdefault(cell["experiment"], []).append(cell)
    rows = [_row(group, metrics, models) for group in by_experiment.values()]
    controls = [row for row in rows if row.kind == "control"]
    trained = _marked([row for row in rows if row.kind != "control"], metrics, tol)
    return Board(
        dataset=dataset,
        task=task,
        split=split,
        protocol=protocol,
        metrics=metrics,
        rows=tuple(sorted(trained, key=_row_order)),
        controls=tuple(sorted(controls, key=lambda row: _score_order(row, metrics[0]))),
        id=slug(dataset, task, *(() if split == "val" else (split,)), protocol),
    )


def _present_metrics(task: str, cells: Sequence[Cell]) -> tuple[Metric, ...]:
    """Return the task's columns that at least one record speaks of; always the primary."""
    known = {key for cell in cells if cell.get("record") for key in cell["record"]["scores"]}
    return tuple(m for m in metrics_of(task) if m.key in known or m == primary(task))


def _row(cells: Sequence[Cell], metrics: Sequence[Metric], models: Mapping[str, Any]) -> Row:
    cells = sorted(cells, key=lambda cell: int(cell["seed"]))
    scored = [cell for cell in cells if status_of(cell) == "ok"]
    states = {status_of(cell) for cell in cells}
    status = "ok" if scored else "failed" if "failed" in states else "not_run"
    values = {m.key: _value(m, [c["record"]["scores"].get(m.key) for c in scored]) for m in metrics}
    profiles = [cell["profile"] for cell in cells if cell.get("profile")]
    for metric in COSTS:
        costs = [profile.get(metric.key) for profile in profiles]
        values[metric.key] = _value(metric, costs, spread=False)
    values["train"] = _value(TRAIN_TIME, [_train_seconds(c) for c in scored], spread=False)
    return Row(
        experiment=cells[0]["experiment"],
        name=str(cells[0].get("display_name") or cells[0]["experiment"]),
        kind=cells[0]["kind"],
        status=status,
        cells=tuple(cells),
        model=model_entry(models, _model_id(cells)),
        values=values,
    )


def model_entry(models: Mapping[str, Any], model_id: str) -> dict[str, Any]:
    """Return a model's registry entry; unknown models and controls have empty fields."""
    return {"paper": "", "year": None, "backbone": "", **(models.get(model_id) or {})}


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


def _value(metric: Metric, found: Iterable[float | None], *, spread: bool = True) -> Value:
    numbers = [float(number) for number in found if number is not None]
    if not numbers:
        return Value(metric)
    sd = statistics.stdev(numbers) if spread and len(numbers) > 1 else None
    return Value(metric, statistics.fmean(numbers), sd, len(numbers))


def _marked(rows: Sequence[Row], metrics: Sequence[Metric], tolerance: float) -> list[Row]:
    """Give rows their rank by the first metric and mark best and second in every column."""
    columns = {
        m.key: tie_groups([r.values[m.key] for r in rows], tolerance=tolerance) for m in metrics
    }
    first = columns[metrics[0].key]
    marked = []
    for index, row in enumerate(rows):
        values = dict(row.values)
        for key, groups in columns.items():
            mark = mark_of(groups[index], groups)
            old = values[key]
            values[key] = Value(old.metric, old.raw, old.sd, old.count, mark)
        group = first[index]
        rank = None if group is None else 1 + sum(g is not None and g < group for g in first)
        fields = {**row.__dict__, "values": values, "rank": rank}
        marked.append(Row(**{**fields, "tied": group is not None and first.count(group) > 1}))
    return marked


def _row_order(row: Row) -> tuple[Any, ...]:
    states = {"ok": 0, "failed": 1, "not_run": 2}
    best = -(row.values[next(iter(row.values))].raw or 0.0)
    return (row.rank is None, row.rank or 0, states[row.status], best, row.name, row.experiment)


def _score_order(row: Row, metric: Metric) -> tuple[Any, ...]:
    raw = row.values[metric.key].raw
    return (raw is None, -(raw or 0.0), row.experiment)


def train_text(row: Row) -> str:
    """Return the mean training time of a row in words."""
    return MISSING if row.kind == "control" else duration(row.train_time.raw)
