"""A table is looked at before a page is made of it: it may be damaged, or somebody else's.

What is sealed (records, profiles) is either as segbench wrote it or refused, so its depths need
no look; of all else, the kind of each part that pages read is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from segbench.core.errors import DataError, SegbenchError
from segbench.core.seal import KEY, check_seal
from segbench.core.types import Task
from segbench.report.paths import stays_inside
from segbench.report.rows import STATUS_WORDS

SHOWN = 20
"""Lines that an error has at most."""
_WORDS = {
    dict: "an object", list: "a list", str: "text", int: "a number", bool: "true or false",
    float: "a number", type(None): "null",
}  # fmt: skip
_Kinds = Mapping[str, type | tuple[type, ...]]
_NULL = type(None)
_TABLE: _Kinds = {"cells": list, "datasets": dict, "models": dict}
_TABLE_MAY: _Kinds = {"gallery_images": int, "ties": (list, _NULL)}
_CELL: _Kinds = {
    "dataset": str, "experiment": str, "split": str, "kind": str, "run_folder": str, "seed": int,
    "task": str, "status": str,
}  # fmt: skip
_CELL_MAY: _Kinds = {
    "logs": list, "notes": list, "record": (dict, _NULL), "submission": (dict, _NULL),
    "oracle": (dict, _NULL), "profile": (dict, _NULL), "model": (str, _NULL),
    "display_name": (str, _NULL), "reason": (str, _NULL),
}  # fmt: skip
_RECORD: _Kinds = {"protocol": str, "num_images": int, "scores": dict, "per_class": list}
_RECORD_MAY: _Kinds = {
    "intervals": dict, "rules": (dict, _NULL), "errors": (dict, _NULL), "warnings": list,
    "digests": dict, "provenance": dict, "counts": (str, _NULL),
}  # fmt: skip
_DATASET_MAY: _Kinds = {
    "categories": list, "tasks": list, "splits": dict, "protocols": dict, "name": str,
}  # fmt: skip
_SAME = ("dataset", "experiment", "seed", "split", "task")
"""What a record says of itself as its cell does."""


def check_table(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse a table whose parts are of other kinds, or whose paths leave the results folder.

    Raises:
        DataError: Naming every part, one line each.
    """
    wrong = list(_wrong(table))
    if wrong:
        raise DataError(
            "\n".join(f"{path}: {what}" for what in wrong[:SHOWN]),
            fix="make the table with `segbench collect`; paths of a table are relative to its "
            "results folder and stay inside it",
        )


def _wrong(table: Mapping[str, Any]) -> Iterator[str]:
    wrong = [*_kinds(table, _TABLE, _TABLE_MAY)]
    wrong = wrong or _members(table, "ties", dict)
    yield from wrong
    if wrong:
        return
    for name, facts in table["datasets"].items():
        if not stays_inside(name):
            yield f"datasets: '{name}' leads out of the results folder"
        if facts is not None:  # it is None until the dataset is prepared
            found = _object(facts, {}, _DATASET_MAY) or _members(facts, "categories", dict)
            yield from (f"datasets: {name}: {what}" for what in found)
    for name, facts in table["models"].items():
        yield from (f"models: {name}: {what}" for what in _object(facts, {}, {}))
    for number, cell in enumerate(table["cells"]):
        yield from (f"cells[{number}]: {what}" for what in _wrong_cell(cell))


def _object(value: Any, must: _Kinds, may: _Kinds) -> list[str]:
    """Return what is wrong with a value that should be an object of these parts."""
    if not isinstance(value, dict):
        return [f"expected an object, found {_word(value)}"]
    return list(_kinds(value, must, may))


def _kinds(value: Mapping[str, Any], must: _Kinds, may: _Kinds) -> Iterator[str]:
    for key, kind in {**must, **may}.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if key not in value:
            if key in must:
                yield f"{key}: expected {_WORDS[kinds[0]]}, found nothing"
        elif not isinstance(value[key], kinds) or isinstance(value[key], bool):
            yield f"{key}: expected {_WORDS[kinds[0]]}, found {_word(value[key])}"


def _members(owner: Mapping[str, Any], key: str, kind: type) -> list[str]:
    """Return what is wrong with the members of a list."""
    found = next((each for each in owner.get(key) or () if not isinstance(each, kind)), None)
    if found is None and None not in (owner.get(key) or ()):
        return []
    return [f"{key}: expected a list of {_WORDS[kind].split()[-1]}s, found {_word(found)} in it"]


def _word(value: Any) -> str:
    text = repr(value)
    kind = _WORDS.get(type(value), type(value).__name__)
    return text if isinstance(value, str | int | float) and len(text) <= 60 else kind


def _wrong_cell(cell: Any) -> list[str]:
    wrong = _object(cell, _CELL, _CELL_MAY)
    if wrong:
        return wrong
    for key, known in (("task", get_args(Task)), ("status", STATUS_WORDS)):
        if cell[key] not in known:
            wrong.append(f"{key}: expected one of {', '.join(known)}, found {cell[key]!r}")
    if cell.get("record"):
        wrong += [f"record: {what}" for what in _wrong_record(cell["record"], cell)]
    if cell.get("profile"):
        wrong += _broken_seal(cell["profile"], "profile")
    return [*wrong, *_members(cell, "notes", str), *_outside(cell)]


def _wrong_record(record: Mapping[str, Any], cell: Mapping[str, Any]) -> list[str]:
    wrong = _object(record, _RECORD, _RECORD_MAY)
    wrong += [
        f"{key}: it is of {record[key]!r}, its cell of {cell[key]!r}"
        for key in _SAME
        if key in record and record[key] != cell[key]
    ]
    return wrong or _members(record, "per_class", dict) or _broken_seal(record, "it")


def _broken_seal(content: Mapping[str, Any], name: str) -> list[str]:
    """Say that a sealed part was changed; parts of older versions have no seal."""
    try:
        if KEY in content:
            check_seal(content, name, again="")
    except SegbenchError as error:
        return [error.what]
    return []


def _outside(cell: Mapping[str, Any]) -> Iterator[str]:
    """Say which paths of a cell leave the results folder."""
    paths = {key: [cell[key]] for key in ("dataset", "split", "run_folder")}
    counts = (cell.get("record") or {}).get("counts")
    paths |= {"logs": cell.get("logs", []), "record.counts": [counts or ""]}
    for key, names in paths.items():
        for name in names:
            if not stays_inside(name):
                yield f"{key}: {_word(name)} leads out of the results folder"
