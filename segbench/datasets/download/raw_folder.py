"""The raw folder of a dataset: the user's own, or one that segbench fills.

Without ``--raw`` it is ``results/raw/<dataset>``. In it the names ``archives``, ``.segbench``
and ``.unpack-*`` are segbench's; everything else is what the archives hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segbench.core.errors import DataError
from segbench.core.paths import given
from segbench.core.progress import say
from segbench.core.types import Archive, DatasetInfo
from segbench.datasets.download.archives import Mirror, chosen_archives, download_archives
from segbench.datasets.download.state import Places, recorded_manifest
from segbench.datasets.registry import dataset_module

RAW_ROOT = Path("results/raw")
OURS = ("archives", ".segbench")
SCHEMA = 2

State = Literal["unpacked", "packed", "begun", "absent"]


@dataclass(frozen=True)
class ArchiveState:
    """How far one archive is: ``num_bytes`` lie on the disk, packed or unpacked."""

    archive: Archive
    state: State
    num_bytes: int


def default_raw(name: str) -> Path:
    """Return the raw folder of a dataset for which none is given."""
    return RAW_ROOT / name


def downloaded_raw(name: str) -> Path | None:
    """Return the folder the dataset names, or the default one if segbench has filled it."""
    folder = default_raw(name)
    return folder if (folder / ".segbench").is_dir() else dataset_module(name).INFO.folder


def archive_states(info: DatasetInfo, raw: Path) -> list[ArchiveState]:
    """Return how far every archive of a dataset is in a raw folder."""
    return [_state(Places(raw, archive)) for archive in info.archives]


def _state(places: Places) -> ArchiveState:
    manifest = recorded_manifest(places)
    if manifest is not None:
        return ArchiveState(places.archive, "unpacked", manifest["bytes"])
    part = places.packed.with_name(places.packed.name + ".part")
    found: list[tuple[Path | None, State]] = [(places.supplied(), "packed"), (part, "begun")]
    for path, state in found:
        if path is not None and path.is_file():
            return ArchiveState(places.archive, state, path.stat().st_size)
    return ArchiveState(places.archive, "absent", 0)


def provide_raw(
    info: DatasetInfo,
    raw: Path | None,
    *,
    names: Sequence[str] = (),
    mirror: Mirror | None = None,
    keep: bool = True,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make sure the original files of a dataset are in its raw folder; return a record of them.

    A folder of the user that holds the dataset is taken as it is; one that holds something
    else is never written to.

    Args:
        info: The dataset.
        raw: The user's folder; None for the default one.
        names: Only these archives; empty for every one that is not optional.
        mirror: Where archives are taken from.
        keep: Whether packed archives stay.
        options: Options of ``prepare``, which may decide what a folder must hold.

    Raises:
        ConfigError: An archive of ``names`` is unknown.
        DataError: The folder holds something else, or an archive cannot be had.
    """
    if not info.layout and not info.archives:
        return _record(info, None, [])
    folder = _given_folder(info, raw)
    problem = "" if names else _foreign(info, folder, options or {})
    if problem is None or not info.archives:
        say(f"{info.name}: {folder} is taken as it is")
        return _record(info, folder, [])
    if problem:
        raise _not_this(info, folder, problem)
    found = download_archives(info, folder, names=names, mirror=mirror, keep=keep)
    return _record(info, folder, found)


def absent_archives(info: DatasetInfo, raw: Path) -> list[str]:
    """Return the names of required archives that are not unpacked in a folder we fill."""
    if not (raw / ".segbench").is_dir():
        return []
    done = {s.archive.name for s in archive_states(info, raw) if s.state == "unpacked"}
    return [a.name for a in chosen_archives(info, ()) if a.name not in done]


def _given_folder(info: DatasetInfo, raw: Path | None) -> Path:
    raw = raw or info.folder
    if raw is None and not info.archives:
        raise DataError(
            f"dataset '{info.name}' is not embedded: its files must be supplied as a folder\n"
            f"{info.layout}",
            fix=f"set datasets: {{{info.name}: {{raw: FOLDER}}}} in the configuration, or pass "
            f"--raw; the data: {info.homepage}",
        )
    folder = default_raw(info.name) if raw is None else given(raw, "raw")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"dataset '{info.name}': {folder} is no folder", fix="correct raw:")
    may_be_made = info.archives and (raw is None or folder.parent.is_dir())
    if not folder.is_dir() and not may_be_made:
        raise DataError(
            f"dataset '{info.name}': {folder} is not a folder", fix="correct the path in raw:"
        )
    return folder


def _foreign(info: DatasetInfo, folder: Path, options: Mapping[str, Any]) -> str | None:
    """Return why a folder of the user is not this dataset; empty if it is ours to fill.

    None means that it is the dataset: ``sources`` finds images in it, and the first one of
    every split has all its files.
    """
    if (folder / ".segbench").is_dir():
        return ""
    known = {name for a in info.archives for name in (a.name, f"{a.name}.part")}
    entries = folder.iterdir() if folder.is_dir() else ()
    names = {entry.name for entry in entries if not entry.name.startswith(".")}
    if info.archives and names <= {*known, *OURS}:
        return ""
    try:
        splits = dataset_module(info.name).sources(folder, {**info.options, **options})
    except DataError as error:
        return error.what
    firsts = [items[0] for items in splits.values() if items]
    lacking = [path for item in firsts for path in item.files if not path.exists()]
    if lacking:
        return f"{lacking[0]} is not there"
    return None if firsts else "it has no image"


def _not_this(info: DatasetInfo, folder: Path, problem: str) -> DataError:
    return DataError(
        f"{folder} holds files, but not the dataset '{info.name}': {problem}\n{info.layout}",
        fix="repair the folder, or name an empty one with --raw to have the data downloaded; "
        "--archive NAME adds one archive to it nevertheless",
    )


def _record(
    info: DatasetInfo, folder: Path | None, archives: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what is in a raw folder: archives with digests, files with sizes."""
    files = sorted(_files(folder)) if folder else []
    listing = [[p.relative_to(folder).as_posix(), p.stat().st_size] for p in files if folder]
    return {
        "schema": SCHEMA,
        "dataset": info.name,
        "raw": None if folder is None else str(folder),
        "archives": list(archives),
        "files": len(listing),
        "listing": listing,
    }


def _files(folder: Path) -> list[Path]:
    tops = [e for e in folder.iterdir() if e.name not in OURS and not e.name.startswith(".unpack-")]
    inner = [p for top in tops if top.is_dir() for p in top.rglob("*") if p.is_file()]
    return inner + [top for top in tops if top.is_file()]
