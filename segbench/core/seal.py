"""JSON files that show whether they still are what was written.

Each small file between two stages ends with ``seal``, a digest over all else in it. A file that
was cut, edited or mixed with another one no longer fits its seal. The seal is no signature: it
finds accidents and thoughtless edits, not somebody who computes it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.core import provenance
from segbench.core.errors import DataError, ForeignFile
from segbench.core.files import as_read, read_json, write_json

KEY = "seal"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its seal, as a reader will see it."""
    content = {key: part for key, part in as_read(value).items() if key != KEY}
    return {**content, KEY: provenance.json_digest(content)}


def write_sealed(path: Path, value: Mapping[str, Any], *, indent: int | None = 1) -> dict[str, Any]:
    """Write a JSON object with its seal, atomically; return what was written."""
    content = sealed(value)
    write_json(path, content, indent=indent)
    return content


def read_sealed(path: Path, *, again: str) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote.

    Args:
        path: The file.
        again: What makes the file anew, as in ``train it again``.

    Raises:
        DataError: The file is missing, broken, no object, or was changed.
        ForeignFile: It has no seal: an older segbench made it.
    """
    try:
        content = read_json(path)
    except DataError as error:
        raise DataError(error.what, fix=again) from error
    check_seal(content, str(path), again=again)
    found: dict[str, Any] = content
    return found


def check_seal(content: Any, name: str, *, again: str) -> None:
    """Refuse a JSON value that is no object or does not fit its seal.

    Args:
        content: What was read.
        name: What it is called in the error.
        again: What makes it anew.

    Raises:
        DataError: It was changed after it was written.
        ForeignFile: It has no seal.
    """
    if not isinstance(content, dict):
        raise DataError(f"{name}: expected an object, found {type(content).__name__}", fix=again)
    if KEY not in content:
        raise ForeignFile(
            f"{name} was made by an older segbench, which did not seal its files", fix=again
        )
    if content[KEY] != _digest(content):
        raise DataError(f"{name} was changed after it was written", fix=again)


def _digest(content: Mapping[str, Any]) -> str:
    return provenance.json_digest({key: part for key, part in content.items() if key != KEY})
