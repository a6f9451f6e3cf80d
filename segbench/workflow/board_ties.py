"""Tie groups of every board of a table, from the stored counts of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import UNRANKED
from segbench.evaluation.counts import load_counts
from segbench.evaluation.kinds import Counts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.resampled import HEADLINE
from segbench.statistics.bootstrap import MIN_IMAGES
from segbench.statistics.draws import LEVEL, affordable_resamples
from segbench.statistics.ties import tie_groups

Cell = Mapping[str, Any]
Key = tuple[str, str, str, str]
KEYS = ("dataset", "split", "task", "protocol")
"""What names a board, in the order of its key."""


def board_ties(root: Path, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the tie groups of each board whose rows can be compared, in the order of the cells.

    Args:
        root: The results folder.
        cells: Cells of a table (``docs/contracts.md``); controls, oracles and cells without
            a headline score take no part.

    Returns:
        One entry a board: dataset, split, task, protocol, metric, level, resamples, rows (see
        ``ties.TiedRow``). Boards of one row, of too few images or whose rows were not
        counted on the same images are left out.
    """
    found = ((key, _ties(root, key, rows)) for key, rows in _boards(cells).items())
    return [{**dict(zip(KEYS, key, strict=True)), **ties} for key, ties in found if ties]


def _boards(cells: Sequence[Cell]) -> dict[Key, dict[str, list[Cell]]]:
    """Return the cells with a headline score by board and experiment."""
    boards: dict[Key, dict[str, list[Cell]]] = {}
    for cell in cells:
        record = cell["record"]
        if cell["kind"] in UNRANKED or not record:
            continue
        if record["scores"].get(HEADLINE[cell["task"]]) is None:
            continue
        key = (cell["dataset"], cell["split"], cell["task"], record["protocol"])
        boards.setdefault(key, {}).setdefault(cell["experiment"], []).append(cell)
    return boards


def _ties(root: Path, key: Key, rows: Mapping[str, Sequence[Cell]]) -> dict[str, Any] | None:
    images = min(cell["record"]["num_images"] for cells in rows.values() for cell in cells)
    if len(rows) < 2 or images < MIN_IMAGES:
        return None
    metric = HEADLINE[next(iter(rows.values()))[0]["task"]]
    try:
        runs = {name: [_counts(root, cell) for cell in cells] for name, cells in rows.items()}
        resamples = min(affordable_resamples(parts) for seeds in runs.values() for parts in seeds)
        found = tie_groups(runs, get_protocol(key[3]), metric, resamples=resamples)
    except (ConfigError, DataError):
        return None
    listed = [row.as_dict() for row in found]
    return {"metric": metric, "level": LEVEL, "resamples": resamples, "rows": listed}


def _counts(root: Path, cell: Cell) -> dict[str, Counts]:
    folder = root / cell["run_folder"] / "evaluation" / cell["split"] / cell["task"]
    return load_counts(folder / cell["record"]["counts"])
