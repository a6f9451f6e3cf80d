"""From a verified archive to its files in the raw folder, all or nothing.

The archive is unpacked into a folder of its own, whose entries are then moved into place;
the manifest follows, and the folder goes last. A killed attempt is done again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError, LeaseLost
from segbench.core.progress import say
from segbench.core.provenance import file_digest
from segbench.datasets.download.containers import container_kind
from segbench.datasets.download.disk import writing
from segbench.datasets.download.state import Places, write_manifest
from segbench.datasets.download.unpack import Limits, UnpackedFile, unpack

NOTES = ("readme", "license", "licence")
"""Names of files that several archives of one dataset carry, each in its own words."""


def install(
    places: Places, packed: Path, *, limits: Limits, check: Callable[[], None], **facts: Any
) -> None:
    """Unpack an archive, or link a file that is no archive, to where the dataset reads it.

    Args:
        places: Where its files lie.
        packed: The verified archive.
        limits: What is taken for a bomb.
        check: Raises when another process has taken this work over.
        **facts: What the manifest says of the origin.

    Raises:
        DataError: The archive is broken or refused, a file of another origin is in the way,
            or the disk is full. Nothing of the archive is left in the raw folder then.
    """
    shutil.rmtree(places.work, ignore_errors=True)
    with writing(places.work):
        places.work.mkdir(parents=True)
    try:
        files = _without_clashes(places, _unpacked(places, packed, limits))
        check()
    except LeaseLost:
        raise  # the folder is the other process's now
    except BaseException:
        shutil.rmtree(places.work, ignore_errors=True)
        raise
    with writing(places.target):
        _move(places.work, places.target)
        os.sync()
    write_manifest(places, files, **facts)
    shutil.rmtree(places.work, ignore_errors=True)


def _unpacked(places: Places, packed: Path, limits: Limits) -> list[UnpackedFile]:
    """Return the files of an archive, which now lie in the work folder."""
    kind = container_kind(packed.name)
    if kind is not None:
        nested = places.archive.nested
        files = unpack(packed, kind, folder=places.work, limits=limits, nested=nested)
        if not files:
            raise DataError(f"{packed} holds no files")
        return files
    target = places.work / packed.name
    with writing(target):
        try:
            os.link(packed, target)
        except OSError:
            shutil.copyfile(packed, target)
    size = target.stat().st_size
    return [UnpackedFile(packed.name, size, file_digest(target))]


def _without_clashes(places: Places, files: Sequence[UnpackedFile]) -> list[UnpackedFile]:
    """Return the files that may be moved; a second licence text is dropped.

    Raises:
        DataError: One would replace a file of other content.
    """
    kept: list[UnpackedFile] = []
    for file in files:
        target = places.target / file.path
        if not os.path.lexists(target) or _is_same(target, file):
            kept.append(file)
        elif file.path.lower().startswith(NOTES) and "/" not in file.path:
            say(f"{places.archive.name}: {target} of another archive stays")
            (places.work / file.path).unlink()
        else:
            raise DataError(
                f"{places.archive.name} brings {file.path}, but {target} is there with other "
                "content",
                fix=f"move {target} away and run the same command again",
            )
    return kept


def _is_same(target: Path, file: UnpackedFile) -> bool:
    return (
        target.is_file()
        and not target.is_symlink()
        and target.stat().st_size == file.num_bytes
        and file_digest(target) == file.sha256
    )


def _move(source: Path, target: Path) -> None:
    """Move the entries of a folder into another, joining folders that are in both."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            entry.replace(place)
