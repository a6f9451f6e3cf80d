"""The one decision which folders a command may write: only empty ones and its own.

A folder that segbench has written carries ``.segbench.json``: its kind and, where it is
replaced as a whole, every file that segbench put there. Such a folder is replaced; one with
anything else in it is refused, and nothing is touched. See docs/decisions/0014.

A new folder is made beside the old one and takes its place when it is complete, so a killed
command leaves the old one, and two commands never mix their files.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segbench.core.errors import ConfigError, DataError
from segbench.core.files import write_json
from segbench.core.folder_lock import sole_writer
from segbench.core.older_folders import json_object, unknown_files
from segbench.core.paths import Input, is_litter, output_place, resolved

MARKER = ".segbench.json"
SCHEMA = 1
SHOWN = 3
"""Foreign files that a message lists."""

Replaced = Literal["predictions", "overlays", "report"]
Updated = Literal["evaluation", "scores", "run"]


@dataclass(frozen=True)
class Marker:
    """What a folder says of itself; ``files`` is None where files are added to it."""

    kind: str
    files: frozenset[str] | None


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of a folder; None where there is none that is valid."""
    found = json_object(folder / MARKER)
    files = found.get("files")
    if found.get("schema") != SCHEMA or not isinstance(found.get("kind"), str):
        return None
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        return Marker(found["kind"], None)
    return Marker(found["kind"], frozenset(files))


def write_marker(folder: Path, kind: str, files: Iterable[str] | None = None) -> None:
    """Write the marker of a folder."""
    facts: dict[str, Any] = {"schema": SCHEMA, "kind": kind}
    write_json(folder / MARKER, facts if files is None else {**facts, "files": sorted(files)})


def check_replaceable(
    out: Path, kind: Replaced, *, inputs: Iterable[Input] = (), option: str = "--out"
) -> Path:
    """Return the resolved folder once it may be replaced by a new one of ``kind``.

    Raises:
        ConfigError: It overlaps what must stay (``paths.output_place``), or holds anything
            that segbench has not written as a folder of this kind.
    """
    place = output_place(out, option=option, inputs=inputs)
    _refuse_mount(place, option)
    if reason := _foreign(place, kind):
        raise ConfigError(
            f"{option}: {out} {reason}",
            fix=f"nothing was touched; move that away, or give {option} another folder",
        )
    return place


@contextmanager
def replacing(
    out: Path, kind: Replaced, *, inputs: Iterable[Input] = (), option: str = "--out"
) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``out`` when the block is done.

    Another process that does the same is waited for.

    Raises:
        ConfigError: See :func:`check_replaceable`; it is asked before and after the block.
        DataError: The folder cannot be written.
    """
    inputs = tuple(inputs)
    place = check_replaceable(out, kind, inputs=inputs, option=option)
    with sole_writer(place) as alone:
        if alone:
            _tidy(place, kind)
        check_replaceable(out, kind, inputs=inputs, option=option)
        building = _beside(place, "building")
        with _writing(out):
            building.mkdir()
        try:
            write_marker(building, kind)
            yield building
            write_marker(building, kind, _tree(building) - {MARKER})
            check_replaceable(out, kind, inputs=inputs, option=option)
            with _writing(out):
                _swap(building, place)
        finally:
            shutil.rmtree(building, ignore_errors=True)


@contextmanager
def updating(
    out: Path, kind: Updated, *, ours: Callable[[Path], bool], files: Iterable[str], last: str,
    inputs: Iterable[Input] = (), option: str = "--out",
) -> Iterator[Path]:  # fmt: skip
    """Yield an empty folder whose files are moved into ``out`` when the block is done.

    Whatever else is in ``out`` stays. A file that says that the others are complete is taken
    away first and written last.

    Args:
        out: The folder, made if need be.
        kind: What is written.
        ours: Says whether an unmarked folder was written by segbench.
        files: Names of the files that may be written, relative to ``out``.
        last: The one of them that is written last.
        inputs: What is read.
        option: What names the folder in messages.

    Raises:
        ConfigError: See :func:`check_updatable`.
        DataError: The folder cannot be written.
    """
    files, inputs = tuple(files), tuple(inputs)
    place = check_updatable(out, kind, ours=ours, files=files, inputs=inputs, option=option)
    _refuse_mount(place, option)
    with sole_writer(place) as alone:
        if alone:
            _tidy(place, kind)
        building = _beside(place, "building")
        with _writing(out):
            building.mkdir()
        try:
            write_marker(building, kind)
            yield building
            check_updatable(out, kind, ours=ours, files=files, inputs=inputs, option=option)
            with _writing(out):
                _move_in(building, place, last)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def check_updatable(
    out: Path, kind: Updated, *, ours: Callable[[Path], bool], files: Iterable[str],
    inputs: Iterable[Input] = (), option: str = "--out",
) -> Path:  # fmt: skip
    """Return the resolved folder once files of :func:`updating` may be written into it.

    Raises:
        ConfigError: It overlaps what must stay, or one of the files is there and not ours.
    """
    files, inputs = tuple(files), tuple(inputs)
    place = output_place(out, option=option, inputs=inputs, replaced=False)
    try:
        reason = _not_ours(place, kind, ours, files)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    read = {resolved(item): item.what for item in inputs}
    for name in files:
        if place / name in read:
            reason = f"has {name}, which is the input {read[place / name]}"
    if not reason:
        return place
    raise ConfigError(
        f"{option}: {out} {reason}",
        fix=f"nothing was touched; move that away, or give {option} another folder",
    )


def _not_ours(place: Path, kind: str, ours: Callable[[Path], bool], files: tuple[str, ...]) -> str:
    """Return why files may not be written into a folder; empty if they may."""
    marker = read_marker(place)
    if marker is not None and marker.kind != kind:
        return f"holds {_named(marker.kind)} of segbench, not {_named(kind)}"
    if marker is None and os.path.lexists(place / MARKER):
        return f"has a {MARKER} that this version of segbench cannot read"
    taken = [name for name in files if os.path.lexists(place / name)]
    odd = [name for name in taken if not (place / name).is_file()]
    if odd or (taken and marker is None and not ours(place)):
        return f"has {(odd or taken)[0]}, which segbench did not write"
    return ""


def _move_in(building: Path, place: Path, last: str) -> None:
    if _is_empty(place):
        building.rename(place)
        return
    (place / last).unlink(missing_ok=True)
    for name in sorted(_tree(building), key=lambda name: (name == last, name)):
        if not name.endswith("/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).replace(place / name)


def _foreign(place: Path, kind: str) -> str:
    """Return why a folder may not be replaced; empty if it may."""
    files = _tree(place) if os.path.lexists(place) else set()
    if not files:
        return ""
    marker = read_marker(place)
    if marker is None:
        strangers = _listed(unknown_files(place, kind, files))
        return strangers and f"has no {MARKER}, so it is none of segbench's; it has {strangers}"
    if marker.kind != kind:
        return f"holds {_named(marker.kind)} of segbench, not {_named(kind)}"
    extra = files - {MARKER, *(marker.files or ())}
    return f"has {_listed(extra)}, which segbench did not write" if extra else ""


def _tree(folder: Path) -> set[str]:
    """Return all that lies in a folder: files, links, and folders that hold nothing (``x/``)."""
    found: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=_raise):
        top = Path(here)
        links = {name for name in folders if (top / name).is_symlink()}
        found |= {(top / name).relative_to(folder).as_posix() for name in (*files, *links)}
        if not folders and not files and top != folder:
            found.add(f"{top.relative_to(folder).as_posix()}/")
    return {name for name in found if not is_litter(name, found)}


def _refuse_mount(place: Path, option: str) -> None:
    """Refuse what no other folder can take the place of."""
    if place.is_mount():
        raise ConfigError(f"{option}: {place} is a mount point", fix="name a folder in it")


def _raise(error: OSError) -> None:
    raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - SHOWN
    return ", ".join(ordered[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _named(kind: str) -> str:
    articles = {"report": "a report", "evaluation": "an evaluation", "run": "a training run"}
    return articles.get(kind, kind)


def _beside(place: Path, purpose: str) -> Path:
    return place.with_name(f".{place.name}.{purpose}-{secrets.token_hex(4)}")


def _tidy(place: Path, kind: str) -> None:
    """Clear up after killed commands: put an old folder back, remove what was never finished.

    The lock is held, so no living process works on any of them.
    """
    name = re.compile(rf"\.{re.escape(place.name)}\.(building|old)(-[0-9a-f]{{8}})?")
    for found in sorted(place.parent.iterdir()):
        matched = name.fullmatch(found.name)
        if matched is None or found.is_symlink() or not found.is_dir():
            continue
        if matched[1] == "old" and _is_empty(place) and not _foreign(found, kind):
            found.rename(place)
        elif matched[2] and _is_leftover(found, kind):
            shutil.rmtree(found, ignore_errors=True)


def _is_empty(place: Path) -> bool:
    return not place.exists() or next(place.iterdir(), None) is None


def _is_leftover(found: Path, kind: str) -> bool:
    marker = read_marker(found)
    if marker is None or marker.kind != kind:
        return _is_empty(found)
    return marker.files is None or not _foreign(found, kind)


def _swap(building: Path, place: Path) -> None:
    if _is_empty(place):
        building.rename(place)
        return
    old = _beside(place, "old")
    place.rename(old)
    try:
        building.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {out}: {error.strerror or error}",
            fix="make the folder it lies in writable, or choose another one",
        ) from error
