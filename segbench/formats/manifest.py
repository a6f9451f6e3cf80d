"""The last file of a prediction folder: what is in it, from what, by whom.

A folder without ``manifest.json`` is not a finished prediction. The digests cover every
file, so a later stage can tell a foreign or half-copied folder from the real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segbench.core import provenance
from segbench.core.errors import DataError, ForeignFile
from segbench.core.pool import in_threads
from segbench.core.seal import read_sealed, write_sealed
from segbench.formats.prepared import PreparedDataset

SCHEMA = 1
NAME = "manifest.json"
AGAIN = "remove the folder and predict again (`segbench predict`, `control` or `submit`)"
FILES = {
    "semantic": "semantic",
    "instance": "instances.json",
    "panoptic": "panoptic.json",
}
"""The file or folder that a prediction folder has for each task."""
SHOWN = 3
"""Files an error names of each kind."""


def write_manifest(folder: Path, **facts: Any) -> dict[str, Any]:
    """List and digest every file under ``folder`` and write the manifest beside them.

    Args:
        folder: A prediction folder, complete except for the manifest.
        **facts: What made the predictions (dataset, split, experiment, weights digest...).
    """
    files = _digests(folder, sorted(_names(folder)))
    if not files:
        raise DataError(f"{folder} holds no prediction files")
    manifest = {
        "schema": SCHEMA,
        **facts,
        "digest": provenance.json_digest(files),
        "num_files": len(files),
        "files": files,
    }
    return write_sealed(folder / NAME, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished prediction folder.

    Raises:
        DataError: There is none, or it was changed.
        ForeignFile: It was made by an older segbench.
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise DataError(
            f"{folder} has no {NAME}: the predictions are missing or unfinished",
            fix="run `segbench predict` (or `segbench control`) again",
        )
    manifest = read_sealed(path, again=AGAIN)
    files = manifest.get("files")
    if not isinstance(files, dict) or manifest.get("digest") != provenance.json_digest(files):
        raise DataError(f"{path} does not list what was predicted", fix=AGAIN)
    return manifest


def check_folder(
    folder: Path, manifest: dict[str, Any], dataset: PreparedDataset, split: str
) -> None:
    """Refuse predictions that are not those of the manifest, or not of this data.

    Every file is read once.

    Raises:
        DataError: Naming the files that were changed, removed or added after the manifest.
        ForeignFile: They are predictions of another dataset, split or preparation.
    """
    expected = {"dataset": dataset.name, "split": split}
    for key, value in expected.items():
        if manifest.get(key) != value:
            raise ForeignFile(
                f"{folder} holds predictions of {key} '{manifest.get(key)}', not '{value}'",
                fix=f"score them with the {key} they were made for",
            )
    data = (manifest.get("digests") or {}).get("data")
    if data != dataset.digest:
        raise ForeignFile(
            f"{folder} was predicted on data {data}; {dataset.root} is data {dataset.digest} now",
            fix="predict again on this data, or prepare it as it was",
        )
    check_files(folder, manifest)


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare the files of a prediction folder with its manifest; every file is read once.

    Raises:
        DataError: Naming the files that were changed, removed or added after the manifest.
    """
    listed, present = manifest["files"], set(_names(folder))
    found = _digests(folder, [name for name in listed if name in present])
    faults = {
        "missing": [name for name in listed if name not in present],
        "changed": [name for name, digest in found.items() if digest != listed[name]],
        "added": sorted(present - listed.keys()),
    }
    told = [f"{len(names)} {how} ({_listed(names)})" for how, names in faults.items() if names]
    if told:
        raise DataError(
            f"{folder}: files differ from {NAME}: {', '.join(told)}",
            fix=AGAIN,
        )


def _names(folder: Path) -> Iterator[str]:
    for path in Path(folder).rglob("*"):
        if path.is_file() and path.name != NAME and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix()


def _digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    paths = [Path(folder) / name for name in names]
    return dict(zip(names, in_threads(provenance.file_digest, paths), strict=True))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
