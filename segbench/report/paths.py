"""Files of a results folder, by the paths a table gives: none is read from outside of it.

A table can come from somebody else. Its paths are names below the results folder, whole folders
and links included; what leads out of it is refused (written so) or left out (a link).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from segbench.core.errors import DataError
from segbench.core.progress import say
from segbench.core.types import Task

_TEXTS = ("dataset", "experiment", "split", "kind", "run_folder")
"""What every cell says of itself."""


def stays_inside(name: object) -> bool:
    """Say whether a relative path is written so that it stays below the folder it is joined to."""
    if not isinstance(name, str) or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def inside(root: Path, *parts: str) -> Path | None:
    """Return a path below a folder; None where it, or a link on the way, leads out of it."""
    if not all(stays_inside(part) for part in parts):
        return None
    path = root.joinpath(*parts)
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return None
    if resolved.is_relative_to(root.resolve()):
        return path
    say(f"left out: {'/'.join(parts)} is a link that leads out of {root}")
    return None


def inside_file(root: Path, *parts: str) -> Path | None:
    """Return a regular file below a folder; None where there is none."""
    path = inside(root, *parts)
    return path if path is not None and path.is_file() else None


def check_table(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse a table whose cells are none, or whose paths lead out of the results folder.

    Raises:
        DataError: Naming every such cell, one line each.
    """
    wrong = list(_wrong(table))
    if wrong:
        raise DataError(
            "\n".join(f"{path}: {what}" for what in wrong[:20]),
            fix="make the table with `segbench collect`; paths of a table are relative to its "
            "results folder and stay inside it",
        )


def _wrong(table: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in (("cells", list), ("datasets", dict), ("models", dict)):
        if not isinstance(table.get(key), kind):
            yield f"{key}: expected a {kind.__name__}, found {type(table.get(key)).__name__}"
            return
    for name in table["datasets"]:
        if not stays_inside(name):
            yield f"datasets: '{name}' leads out of the results folder"
    for number, cell in enumerate(table["cells"]):
        for what in _wrong_cell(cell):
            yield f"cells[{number}]: {what}"


def _wrong_cell(cell: Any) -> Iterator[str]:
    if not isinstance(cell, dict):
        yield f"expected an object, found {type(cell).__name__}"
        return
    yield from (f"{key}: expected text" for key in _TEXTS if not isinstance(cell.get(key), str))
    if cell.get("task") not in get_args(Task):
        yield f"task: expected one of {', '.join(get_args(Task))}, found {cell.get('task')!r}"
    if not isinstance(cell.get("seed"), int):
        yield f"seed: expected a number, found {cell.get('seed')!r}"
    record = cell.get("record") or {}
    logs = cell.get("logs") or []
    if not isinstance(record, dict) or not isinstance(logs, list):
        yield "record or logs: not of the kind that `segbench collect` writes"
        return
    paths = {key: [cell.get(key, "")] for key in ("dataset", "split", "run_folder")}
    paths |= {"logs": logs, "record.counts": [record.get("counts") or ""]}
    for key, names in paths.items():
        for name in names:
            if not stays_inside(name):
                yield f"{key}: {name!r} leads out of the results folder"
