"""The last file of a prediction folder: what is in it, from what, by whom.

A folder without ``manifest.json`` is not a finished prediction. The digest covers every
file, so a later stage can tell a foreign or half-copied folder from the real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segbench import provenance
from segbench.errors import DataError
from segbench.formats import read_json, write_json

SCHEMA = 1
NAME = "manifest.json"
FILES = {
    "semantic": "semantic",
    "instance": "instances.json",
    "panoptic": "panoptic.json",
}
"""The file or folder that a prediction folder has for each task."""


def write_manifest(folder: Path, **facts: Any) -> dict[str, Any]:
    """List and digest every file under ``folder`` and write the manifest beside them.

    Args:
        folder: A prediction folder, complete except for the manifest.
        **facts: What made the predictions (dataset, split, experiment, weights digest...).
    """
    files = {
        path.relative_to(folder).as_posix(): provenance.file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME and not path.name.startswith(".")
    }
    if not files:
        raise DataError(f"{folder} holds no prediction files")
    manifest = {
        "schema": SCHEMA,
        **facts,
        "digest": provenance.json_digest(files),
        "num_files": len(files),
        "files": files,
    }
    write_json(folder / NAME, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished prediction folder; ``DataError`` when there is none."""
    path = Path(folder) / NAME
    if not path.exists():
        raise DataError(
            f"{folder} has no {NAME}: the predictions are missing or unfinished",
            fix="run `segbench predict` (or `segbench control`) again",
        )
    manifest: dict[str, Any] = read_json(path)
    return manifest
