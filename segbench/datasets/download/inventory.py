"""What of each dataset is here: raw files, prepared form, sizes, and the next command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import Archive, DatasetInfo
from segbench.datasets.download.raw_folder import ArchiveState, archive_states


@dataclass(frozen=True)
class Presence:
    """Where a dataset is on this machine and what is missing."""

    raw: Path | None
    """The folder with the original files; None where there is none."""
    raw_bytes: int
    prepared: Path | None
    """The prepared folder; None unless it is complete."""
    prepared_bytes: int
    images: int
    """Images of the prepared form."""
    missing: tuple[str, ...]
    """Required archives that are not unpacked."""
    next_step: str
    """The command that brings the dataset further; empty when nothing is to be done."""


def presence_of(info: DatasetInfo, *, data_root: Path, raw_root: Path) -> Presence:
    """Look at ``<data_root>/<name>`` and ``<raw_root>/<name>``; sizes are what is on the disk."""
    prepared, raw = data_root / info.name, raw_root / info.name
    raw = info.folder if info.folder is not None and not raw.is_dir() else raw
    whole = _description(prepared)
    has_raw = raw.is_dir()
    states = archive_states(info, raw) if info.archives else []
    needed = [state for state in states if not state.archive.optional]
    missing = tuple(state.archive.name for state in needed if state.state != "unpacked")
    return Presence(
        raw=raw if has_raw else None,
        raw_bytes=folder_bytes(raw),
        prepared=prepared if whole else None,
        prepared_bytes=folder_bytes(prepared),
        images=sum(whole["splits"].values()) if whole else 0,
        missing=() if whole else missing,
        next_step="" if whole else _next_step(info, missing=missing, has_raw=has_raw),
    )


def _description(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(read_json(folder / "dataset.json"))
    except DataError:
        return None


def _next_step(info: DatasetInfo, *, missing: tuple[str, ...], has_raw: bool) -> str:
    prepare = f"segbench prepare {info.name}"
    if not info.layout and not info.archives:
        return prepare
    if info.archives and missing:
        return f"segbench download {info.name}"
    known = info.archives or info.folder is not None
    return prepare if known and has_raw else f"{prepare} --raw FOLDER"


def folder_bytes(folder: Path) -> int:
    """Return the bytes that the files of a folder take, links not followed."""
    return sum(entry.stat(follow_symlinks=False).st_size for entry in _files(folder))


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry


def archive_facts(info: DatasetInfo, raw: Path) -> list[dict[str, Any]]:
    """Return what is known of each archive and how far it is here."""
    return [_archive_facts(state) for state in archive_states(info, raw)]


def _archive_facts(state: ArchiveState) -> dict[str, Any]:
    archive = state.archive
    return {
        "name": archive.name,
        "bytes": archive.num_bytes,
        "login": archive.login or None,
        "how": _how(archive),
        "optional": archive.optional,
        "state": state.state,
        "bytes_here": state.num_bytes,
        "digest": archive.digest or None,
        "urls": list(archive.urls),
        "unpack_to": archive.unpack_to,
    }


def _how(archive: Archive) -> str:
    if not archive.urls:
        return archive.manual or "by hand"
    return f"with a login at {archive.login}" if archive.login else "segbench download"


def size_text(num_bytes: int | None) -> str | None:
    """Return a size for people, in decimal units; None stays None."""
    if num_bytes is None:
        return None
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return None
