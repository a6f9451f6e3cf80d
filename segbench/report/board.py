"""Leaderboards as data: grouping, seeds, ranks with ties, reasons for what has no number.

A board holds the rows of one (dataset, task, split, protocol); only rows of one board are
ever compared. Oracles and controls are listed, never ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from segbench.core.types import TASKS, UNRANKED
from segbench.evaluation.metrics import BOUNDARIES, Metric, metrics_of, primary
from segbench.report.costs import COSTS, MEMORY
from segbench.report.other_tasks import Joined, Siblings, joined_columns, joined_values
from segbench.report.rows import STATUS_WORDS, Cell, Row, row_of, slug
from segbench.report.values import Ties, find_ties, mark_of, measured_groups, tie_groups


@dataclass(frozen=True)
class Board:
    """The comparable rows of one dataset, task, split and protocol."""

    dataset: str
    task: str
    split: str
    protocol: str
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    oracles: tuple[Row, ...]
    controls: tuple[Row, ...]
    id: str = field(default="")
    ties: Ties | None = None

    @property
    def groups(self) -> list[tuple[str, list[Metric]]]:
        """Score columns under their group headings, in column order."""
        found: dict[str, list[Metric]] = {}
        for metric in self.metrics:
            found.setdefault(metric.group, []).append(metric)
        return list(found.items())

    @property
    def costs(self) -> tuple[Metric, ...]:
        """Cost columns: memory where tables of the task state it."""
        return (*COSTS, MEMORY) if self.task == "panoptic" else COSTS

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Ranked rows, oracles, controls, as they stand in the table."""
        return (*self.rows, *self.oracles, *self.controls)

    @property
    def joined(self) -> tuple[Metric, ...]:
        """Columns of other tasks, each under a protocol of its own."""
        return tuple(metric for metric in self.metrics if metric.protocol)

    @cached_property
    def conditions(self) -> dict[str, list[str]]:
        """The different measuring conditions of each cost on this board."""
        rows = self.all_rows
        found = {m.key: dict.fromkeys(row.condition(m.key) for row in rows) for m in self.costs}
        return {key: [text for text in texts if text] for key, texts in found.items()}

    @cached_property
    def without_interval(self) -> list[str]:
        """Why rows have no interval, each reason once."""
        values = (value for row in self.all_rows for value in row.values.values())
        return sorted({value.no_interval for value in values if value.no_interval})

    @property
    def primary(self) -> Metric:
        return primary(self.task)

    @property
    def scored(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.status == "ok")

    @cached_property
    def has_spread(self) -> bool:
        return any(v.sd is not None for r in self.rows for v in r.values.values())

    @cached_property
    def intervals(self) -> list[str]:
        """The levels of the intervals that rows show, in words."""
        found = (value.interval for row in self.all_rows for value in row.values.values())
        return sorted({interval.level_text for interval in found if interval})

    @property
    def num_images(self) -> int | None:
        found = [c["record"]["num_images"] for r in self.scored for c in r.cells if c["record"]]
        return max(found, default=None)


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
    siblings = Siblings.of(table)
    keys = sorted(groups, key=lambda k: (datasets.index(k[0]), order.get(k[1], 9), k[2], k[3]))
    return [_board(key, groups[key], table, siblings, tolerance) for key in keys]


def _protocol(cell: Cell, table: Mapping[str, Any]) -> str:
    if cell.get("record"):
        return str(cell["record"]["protocol"])
    siblings = [
        c["record"]["protocol"]
        for c in table["cells"]
        if c.get("record") and all(c[k] == cell[k] for k in ("dataset", "task", "split"))
    ]
    dataset = table["datasets"].get(cell["dataset"]) or {}  # None until it is prepared
    stated = dataset.get("protocols", {}).get(cell["task"])
    return str(stated if stated or not siblings else min(siblings))


def _board(
    key: tuple[str, str, str, str],
    cells: Sequence[Cell],
    table: Mapping[str, Any],
    siblings: Siblings,
    tol: float,
) -> Board:
    dataset, task, split, protocol = key
    joined = joined_columns(task, cells, siblings)
    metrics = _present_metrics(task, cells)
    rows = _rows(cells, metrics, joined, table["models"], siblings)
    metrics = _in_order(metrics, joined)
    ranked = [row for row in rows if row.kind not in UNRANKED]
    controls = [row for row in rows if row.kind == "control"]
    oracles = [row for row in rows if row.kind == "oracle"]
    scored = {row.experiment for row in ranked if row.values[metrics[0].key].raw is not None}
    named = {"dataset": dataset, "task": task, "split": split, "protocol": protocol}
    ties = find_ties(table, named, scored)
    ranked = sorted(_marked(ranked, metrics, tol, ties), key=_row_order)
    places = {row.experiment: place for place, row in enumerate(ranked)}
    return Board(
        dataset=dataset,
        task=task,
        split=split,
        protocol=protocol,
        metrics=metrics,
        rows=tuple(ranked),
        oracles=tuple(sorted(oracles, key=lambda row: places.get(row.of, len(places)))),
        controls=tuple(sorted(controls, key=lambda row: _score_order(row, metrics[0]))),
        id=slug(dataset, task, *(() if split == "val" else (split,)), protocol),
        ties=ties,
    )


def _rows(
    cells: Sequence[Cell],
    metrics: Sequence[Metric],
    joined: Sequence[Joined],
    models: Mapping[str, Any],
    siblings: Siblings,
) -> list[Row]:
    """Return one row an experiment, in the order of the cells, with its joined values."""
    by_experiment: dict[str, list[Cell]] = {}
    for cell in cells:
        by_experiment.setdefault(cell["experiment"], []).append(cell)
    rows = []
    for group in by_experiment.values():
        row = row_of(group, metrics, models)
        rows.append(replace(row, values={**row.values, **joined_values(group, joined, siblings)}))
    return rows


def _in_order(metrics: Sequence[Metric], joined: Sequence[Joined]) -> tuple[Metric, ...]:
    """Return the columns: the task's own, those of other tasks, boundaries last."""
    own = [metric for metric in metrics if metric.group != BOUNDARIES]
    last = [metric for metric in metrics if metric.group == BOUNDARIES]
    return (*own, *(column.metric for column in joined), *last)


def _present_metrics(task: str, cells: Sequence[Cell]) -> tuple[Metric, ...]:
    """Return the task's columns that at least one record speaks of; always the primary."""
    known = {key for cell in cells if cell.get("record") for key in cell["record"]["scores"]}
    return tuple(m for m in metrics_of(task) if m.key in known or m == primary(task))


def _marked(
    rows: Sequence[Row], metrics: Sequence[Metric], tolerance: float, ties: Ties | None
) -> list[Row]:
    """Give rows their rank by the first metric and mark best and second in every column."""
    columns = {
        m.key: tie_groups([r.values[m.key] for r in rows], tolerance=tolerance) for m in metrics
    }
    key, names = metrics[0].key, [row.experiment for row in rows]
    if ties:
        values = [row.values[key] for row in rows]
        columns[key] = measured_groups(names, values, ties, tolerance=tolerance)
    return [_ranked(row, index, columns, key, ties) for index, row in enumerate(rows)]


def _ranked(
    row: Row, index: int, columns: Mapping[str, list[int | None]], key: str, ties: Ties | None
) -> Row:
    marks = {k: mark_of(groups[index], groups) for k, groups in columns.items()}
    values = {k: replace(v, mark=marks.get(k, "")) for k, v in row.values.items()}
    first, group = columns[key], columns[key][index]
    if group is None:
        return replace(row, values=values)
    rank = 1 + sum(g is not None and g < group for g in first)
    ranks = ties.ranks[row.experiment] if ties else None
    return replace(row, values=values, rank=rank, tied=first.count(group) > 1, ranks=ranks)


def _row_order(row: Row) -> tuple[Any, ...]:
    state = list(STATUS_WORDS).index(row.status)
    best = -(row.values[next(iter(row.values))].raw or 0.0)
    return (
        row.rank is None,
        row.rank or 0,
        state,
        best,
        row.name,
        row.experiment,
    )


def _score_order(row: Row, metric: Metric) -> tuple[Any, ...]:
    raw = row.values[metric.key].raw
    return (raw is None, -(raw or 0.0), row.experiment)
