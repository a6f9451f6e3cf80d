"""Unpacking into a folder of its own, with every byte counted as it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segbench.datasets.fetch.containers import Kind, Member, declared_bytes, open_members
from segbench.datasets.fetch.disk import check_space, writing
from segbench.datasets.fetch.names import SeenNames, safe_path
from segbench.errors import DataError
from segbench.progress import track_bytes

REFUSED = (
    "nothing was written outside its folder; delete the archive and take it from its publisher"
)


@dataclass(frozen=True)
class Limits:
    """How far an archive may grow before it is taken for a bomb."""

    ratio: int = 100
    """Unpacked bytes for each byte of the archive."""
    free_bytes: int = 256 << 20
    """Unpacked bytes that are allowed whatever the ratio."""
    members: int = 5_000_000

    def most(self, packed: int) -> int:
        """Return the unpacked bytes an archive of this size may have."""
        return max(self.free_bytes, self.ratio * packed)


@dataclass(frozen=True)
class UnpackedFile:
    """One file that was written, relative to the folder."""

    path: PurePosixPath
    num_bytes: int
    sha256: str


def unpack(archive: Path, kind: Kind, *, folder: Path, limits: Limits) -> list[UnpackedFile]:
    """Write the files of an archive under an empty folder and return them in their order.

    Raises:
        DataError: The archive is broken or a bomb, a member is refused, or the disk is full.
    """
    allowed = limits.most(archive.stat().st_size)
    declared = declared_bytes(archive, kind)
    if declared > allowed:
        raise _bomb(archive, declared, allowed)
    check_space(folder, declared, what=f"unpack {archive.name}")
    writer = _Writer(archive, folder, allowed=allowed, members=limits.members)
    with open_members(archive, kind) as members:
        chunks = (chunk for member in members for chunk in writer.write(member))
        total = declared if kind == "zip" else None
        for _ in track_bytes(chunks, total, f"unpack {archive.name}"):
            pass
    return writer.files


class _Writer:
    """Writes members one after the other below a folder that nobody else writes to."""

    def __init__(self, archive: Path, folder: Path, *, allowed: int, members: int) -> None:
        self.files: list[UnpackedFile] = []
        self._archive, self._folder = archive, folder
        self._allowed, self._members = allowed, members
        self._written = self._count = 0
        self._names = SeenNames()

    def write(self, member: Member) -> Iterator[int]:
        """Write a member and yield the size of each chunk."""
        self._count += 1
        if self._count > self._members:
            raise DataError(f"{self._archive} has more than {self._members} members")
        if member.is_folder and member.name.strip("/") in ("", "."):
            return
        try:
            path = safe_path(member.name)
            self._names.add(path, is_folder=member.is_folder)
        except DataError as error:
            raise DataError(f"{self._archive}: {error.what}", fix=REFUSED) from None
        target = self._folder / path
        with writing(target):
            (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if not member.is_folder:
            yield from self._write_file(member, path)

    def _write_file(self, member: Member, path: PurePosixPath) -> Iterator[int]:
        digest, size, target = hashlib.sha256(), 0, self._folder / path
        with writing(target), target.open("xb") as stream:
            for chunk in member.chunks():
                self._written += len(chunk)
                if self._written > self._allowed:
                    raise _bomb(self._archive, self._written, self._allowed)
                stream.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                yield len(chunk)
        self.files.append(UnpackedFile(path, size, digest.hexdigest()))


def _bomb(archive: Path, found: int, allowed: int) -> DataError:
    return DataError(
        f"{archive} unpacks to {found} bytes or more; expected at most {allowed} of an archive "
        "of its size",
        fix=REFUSED,
    )
