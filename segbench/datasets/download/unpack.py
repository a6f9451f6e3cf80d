"""Unpacking into a folder of its own, with every byte counted as it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segbench.core.errors import DataError
from segbench.core.progress import track_bytes
from segbench.datasets.download.containers import (
    Kind,
    Member,
    container_kind,
    declared_bytes,
    open_members,
)
from segbench.datasets.download.disk import check_space, writing
from segbench.datasets.download.names import SeenNames, safe_path

REFUSED = (
    "nothing was written outside its folder; take the archive from its publisher or, if you "
    "trust it, unpack it yourself and name the folder with --raw"
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


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """One file that was written; its path is relative to the folder."""

    path: str
    num_bytes: int
    sha256: str


def unpack(
    archive: Path, kind: Kind, *, folder: Path, limits: Limits, nested: Sequence[str] = ()
) -> list[UnpackedFile]:
    """Write the files of an archive under an empty folder and return them in their order.

    Args:
        archive: The archive.
        kind: How it is packed.
        folder: An empty folder that nobody else writes to.
        limits: What is taken for a bomb.
        nested: Members that are archives; each gives way to its own members.

    Raises:
        DataError: The archive is broken or a bomb, a member is refused, or the disk is full.
    """
    writer = _Writer(archive, folder, limits)
    writer.take(archive, kind)
    for name in nested:
        inner = folder / name
        inner_kind = container_kind(name)
        if inner_kind is None or not inner.is_file():
            raise DataError(f"{archive} has no archive {name} in it, which is expected there")
        writer.take(inner, inner_kind, prefix=PurePosixPath(name).parent.as_posix())
        writer.drop(name)
    return writer.files


class _Writer:
    """Writes members one after the other below a folder that nobody else writes to."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.files: list[UnpackedFile] = []
        self._archive, self._folder = archive, folder
        self._allowed, self._members = limits.most(archive.stat().st_size), limits.members
        self._written = self._count = 0
        self._names = SeenNames()

    def take(self, packed: Path, kind: Kind, *, prefix: str = "") -> None:
        """Write all members of an archive, below ``prefix``."""
        declared = declared_bytes(packed, kind)
        self._refuse_bomb(self._written + declared)
        check_space(self._folder, declared, what=f"unpack {packed.name}")
        total = declared if kind == "zip" else None
        with open_members(packed, kind) as members:
            sizes = (size for member in members for size in self._write(member, prefix))
            for _ in track_bytes(sizes, total, f"unpack {packed.name}"):
                pass

    def drop(self, path: str) -> None:
        """Remove a file that was written."""
        (self._folder / path).unlink()
        self.files = [file for file in self.files if file.path != path]

    def _refuse_bomb(self, num_bytes: int) -> None:
        if num_bytes > self._allowed:
            raise DataError(
                f"{self._archive} unpacks to {num_bytes} bytes or more; expected at most "
                f"{self._allowed} of an archive of its size",
                fix=REFUSED,
            )

    def _write(self, member: Member, prefix: str) -> Iterator[int]:
        """Write a member and yield the size of each chunk."""
        self._count += 1
        if self._count > self._members:
            raise DataError(f"{self._archive} has more than {self._members} members", fix=REFUSED)
        if member.is_folder and member.name.strip("/") in ("", "."):
            return
        try:
            path = PurePosixPath(prefix) / safe_path(member.name)
            self._names.add(path, is_folder=member.is_folder)
        except DataError as error:
            raise DataError(f"{self._archive}: {error.what}", fix=REFUSED) from None
        target = self._folder / path
        with writing(target):
            (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if not member.is_folder:
            yield from self._write_file(member, path.as_posix())

    def _write_file(self, member: Member, path: str) -> Iterator[int]:
        digest, size, target = hashlib.sha256(), 0, self._folder / path
        with writing(target), target.open("xb") as stream:
            for chunk in member.chunks():
                self._written += len(chunk)
                self._refuse_bomb(self._written)
                stream.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                yield len(chunk)
        self.files.append(UnpackedFile(path, size, digest.hexdigest()))
