"""What a run scored in its other tasks, beside its panoptic scores, as papers print it.

A panoptic network has one record a task. Its row on the panoptic board also shows box AP,
mask AP and mIoU of the same dataset, experiment, seed and split. Each protocol has columns of
its own, so that only numbers of one protocol stand below each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segbench.evaluation.metrics import Metric, metrics_of
from segbench.report.rows import Cell
from segbench.report.values import Value, interval_of, value_of

JOINED: Mapping[str, Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "panoptic": {
        "instance": ("Instances", {"box_ap": "Box AP", "ap": "Mask AP"}),
        "semantic": ("Semantic", {"miou": "mIoU"}),
    }
}
"""Task of a board -> other task -> its heading and the label of each score shown."""
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Joined:
    """One column of another task.

    ``metric`` is the column here, with a key that no other has; ``own`` is the score as its own
    board knows it.
    """

    metric: Metric
    own: Metric
    task: str
    protocol: str


@dataclass(frozen=True)
class Siblings:
    """The records of a table, to be found from a cell of another task."""

    records: Mapping[Key, Mapping[str, Any]]

    @staticmethod
    def of(table: Mapping[str, Any]) -> Siblings:
        """Gather every record of a table."""
        cells = table["cells"]
        return Siblings({_key(c, c["task"]): c["record"] for c in cells if c.get("record")})

    def find(self, cell: Cell, task: str) -> Mapping[str, Any] | None:
        """Return the record of the same run and split for a task."""
        return self.records.get(_key(cell, task))


def _key(cell: Cell, task: str) -> Key:
    return cell["dataset"], cell["experiment"], int(cell["seed"]), cell["split"], task


def joined_columns(task: str, cells: Sequence[Cell], siblings: Siblings) -> tuple[Joined, ...]:
    """Return the columns of other tasks that a board's cells have a score for.

    Args:
        task: That of the board.
        cells: All its cells.
        siblings: The records of the table.
    """
    columns: list[Joined] = []
    for other, (title, labels) in JOINED.get(task, {}).items():
        records = [record for cell in cells if (record := siblings.find(cell, other))]
        protocols = sorted({str(record["protocol"]) for record in records})
        for protocol in protocols:
            group = title if len(protocols) == 1 else f"{title} ({protocol})"
            known = {k for r in records if r["protocol"] == protocol for k in r["scores"]}
            columns += [
                _column(other, protocol, group, key, label)
                for key, label in labels.items()
                if key in known
            ]
    return tuple(columns)


def _column(task: str, protocol: str, group: str, key: str, label: str) -> Joined:
    own = next(metric for metric in metrics_of(task) if metric.key == key)
    metric = replace(own, key=f"{protocol}.{key}", label=label, group=group, protocol=protocol)
    return Joined(metric, own, task, protocol)


def joined_values(
    cells: Sequence[Cell], columns: Sequence[Joined], siblings: Siblings
) -> dict[str, Value]:
    """Return the values of one row over its seeds, by the key of the column."""
    return {column.metric.key: _value(cells, column, siblings) for column in columns}


def _value(cells: Sequence[Cell], column: Joined, siblings: Siblings) -> Value:
    found = (siblings.find(cell, column.task) for cell in cells)
    records = [record for record in found if record and record["protocol"] == column.protocol]
    value = value_of(column.metric, [r["scores"].get(column.own.key) for r in records])
    if len(records) != 1:
        return value
    interval = interval_of(records[0], column.own)
    return replace(value, interval=interval)
