"""The files of records: written last, read and checked before a number is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segbench.core import provenance
from segbench.core.errors import DataError, ForeignFile
from segbench.core.files import read_json, write_json
from segbench.core.seal import check_seal

SCHEMA = 1
NAME = "records.json"


def write_records(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the records of all tasks of a run, last of all."""
    write_json(folder / NAME, {"schema": SCHEMA, "records": list(records)})


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read the records of all tasks of a run; they are as they were written.

    Raises:
        DataError: The file is missing or broken, or a record was changed.
        ForeignFile: An older segbench made it.
    """
    path, again = folder / NAME, again_of(folder)
    try:
        content = read_json(path)
    except DataError as error:
        raise DataError(error.what, fix=again) from error
    records = content.get("records") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DataError(f"{path} holds no list of records", fix=again)
    for record in records:
        check_seal(record, f"a record of {path}", again=again)
        wrong = [key for key, kind in _KINDS.items() if not isinstance(record.get(key), kind)]
        if wrong:
            told = f"a record of {path}: missing or of a wrong kind: {', '.join(wrong)}"
            raise DataError(told, fix=again)
    tasks = [record["task"] for record in records]
    if len(set(tasks)) < len(tasks):
        raise DataError(f"{path} holds two records of one task", fix=again)
    return records


_KINDS: dict[str, type] = {
    "task": str,
    "protocol": str,
    "counts": str,
    "num_images": int,
    "scores": dict,
    "per_class": list,
    "digests": dict,
    "provenance": dict,
}
"""Kind of each part of a record that later stages read."""


def check_counts(record: dict[str, Any], folder: Path) -> Path:
    """Return the file of a record's counts once it is the one the scores were made from.

    ``record.json`` beside it must be the same record.

    Raises:
        DataError: One of the two is missing or was changed.
        ForeignFile: They are those of another record.
    """
    place, again = folder / record["task"], again_of(folder)
    counts: Path = place / "counts.npz"
    if not counts.is_file():
        raise DataError(f"{counts} is missing", fix=again)
    if provenance.file_digest(counts) != record["digests"].get("counts"):
        raise DataError(f"{counts} is not what the scores were made from", fix=again)
    try:
        beside = read_json(place / "record.json")
    except DataError as error:
        raise DataError(error.what, fix=again) from error
    if beside != record:
        raise ForeignFile(f"{place / 'record.json'} and {NAME} differ", fix=again)
    return counts


def check_predictions(record: dict[str, Any], manifest: dict[str, Any], folder: Path) -> None:
    """Refuse predictions that a record was not made from.

    Raises:
        ForeignFile: The manifest is that of others.
    """
    facts = ("dataset", "experiment", "seed", "split", "kind")
    differing = [key for key in facts if manifest.get(key) != record.get(key)]
    if record["digests"].get("predictions") != manifest["digest"] or differing:
        how = f" ({', '.join(differing)})" if differing else ""
        raise ForeignFile(
            f"{folder} holds other predictions than those that were scored{how}",
            fix="score them again with `segbench evaluate`",
        )


def again_of(folder: Path) -> str:
    """Return what makes the records of a folder anew."""
    return f"remove {folder / NAME} and run again"
