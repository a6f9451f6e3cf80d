"""Files that a command writes under a name of the user's choice: never over one of his own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError
from segbench.core.older_folders import json_object
from segbench.core.paths import Input, resolved, same

TABLE_START = "dataset,experiment,display_name,kind,seed,task,"
"""How a ``table.csv`` begins."""


def output_json(
    out: Path, ours: Callable[[Mapping[str, Any]], bool], what: str,
    *, inputs: Iterable[Input] = (), option: str = "--out",
) -> Path:  # fmt: skip
    """Return the resolved file that a JSON result may be written to.

    Args:
        out: The file; it need not exist.
        ours: Says whether an object read from an existing file is such a result.
        what: What is written, as ``a table of segbench collect``.
        inputs: Files that are read.
        option: What names the file in messages.

    Raises:
        ConfigError: It does not end in .json, is a folder, an input, or a file that is not ours.
    """
    fix = f"give {option} another name; nothing was touched"
    try:
        place = Path(out).resolve()
        if place.is_dir():
            raise ConfigError(f"{option}: {out} is a folder", fix=f"name a file: {out}/NAME.json")
        if place.suffix != ".json":
            raise ConfigError(f"{option}: expected a name that ends in .json, found {out}", fix=fix)
        for item in inputs:
            if same(place, resolved(item)):
                raise ConfigError(f"{option}: {out} is the input {item.what}", fix=fix)
        if _has_content(place) and not ours(json_object(place)):
            raise ConfigError(f"{option}: {out} is there and is not {what}", fix=fix)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{option}: {str(out)!r} cannot be used: {reason}", fix=fix) from None
    return place


def refuse_foreign_csv(path: Path, option: str = "--out") -> None:
    """Refuse to write a table over a CSV file that is none of ``segbench collect``.

    Raises:
        ConfigError: It is there and does not begin like one.
    """
    if path.is_dir() or (_has_content(path) and not _is_table(path)):
        raise ConfigError(
            f"{option}: {path}, which is written beside it, is there and is no table of segbench",
            fix=f"give {option} another name; nothing was touched",
        )


def _is_table(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(TABLE_START)) == TABLE_START.encode()


def _has_content(path: Path) -> bool:
    return os.path.lexists(path) and (not path.is_file() or path.stat().st_size > 0)
