"""Reading zip and tar archives member by member, in one pass and in bounded memory.

Only files and folders are handed out. Links, devices, encrypted and sparse members are
refused by name; a broken or cut archive is a ``DataError``, never a short list of members.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from segbench.core.errors import DataError

CHUNK = 1 << 20
MAX_READ = 4 * CHUNK
"""No reader asks for more at once, except a header that lies about its length."""

MAX_PADDING = 64 * CHUNK
"""Bytes that may follow the end mark of a tar."""

Kind = Literal["zip", "tar"]
_SUFFIXES: dict[str, Kind] = {
    ".zip": "zip", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar", ".tar.bz2": "tar",
    ".tbz2": "tar", ".tar.xz": "tar", ".txz": "tar",
}  # fmt: skip
_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open,
}  # fmt: skip
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
BROKEN = "delete it and run the same command again"
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)


@dataclass(frozen=True)
class Member:
    """A file or folder of an archive; ``read`` yields the bytes of a file."""

    name: str
    is_folder: bool
    num_bytes: int
    """As its header says."""
    chunks: Callable[[], Iterator[bytes]]


def container_kind(name: str) -> Kind | None:
    """Return how a file of this name is unpacked; None for one that is data itself."""
    lower = name.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if lower.endswith(suffix)), None)


def declared_bytes(archive: Path, kind: Kind) -> int:
    """Return the unpacked size a zip states; of a tar, at least its own size."""
    if kind == "tar":
        return archive.stat().st_size
    with _named_faults(archive), zipfile.ZipFile(archive) as container:
        return sum(info.file_size for info in container.infolist())


@contextmanager
def open_members(archive: Path, kind: Kind) -> Iterator[Iterator[Member]]:
    """Yield the members of an archive, each to be read before the next is asked for.

    Raises:
        DataError: The archive is broken or cut, or a member is neither file nor folder.
    """
    members = _zip_members(archive) if kind == "zip" else _tar_members(archive)
    with closing(members):
        yield members


@contextmanager
def _named_faults(archive: Path) -> Iterator[None]:
    """Turn what the readers raise into one error that names the archive."""
    try:
        yield
    except NotImplementedError as error:
        raise DataError(f"{archive} is packed in a way that cannot be read: {error}") from error
    except _BROKEN as error:
        raise DataError(f"{archive} is broken: {error}", fix=BROKEN) from error


def _zip_members(archive: Path) -> Generator[Member, None, None]:
    with _named_faults(archive):
        container = zipfile.ZipFile(archive)
    with container:
        for info in container.infolist():
            _refuse_zip_member(info)
        for info in container.infolist():
            yield Member(
                info.orig_filename,
                info.is_dir() or (info.orig_filename.endswith("\\") and not info.file_size),
                info.file_size,
                lambda info=info: _chunks(archive, lambda: container.open(info)),  # type: ignore[misc]
            )


def _refuse_zip_member(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & 0x1:
        raise DataError(f"member {info.filename!r} is encrypted")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"member {info.filename!r} is {_UNIX_KINDS.get(kind, 'no plain file')}")


_UNIX_KINDS = {
    stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
}  # fmt: skip


def _tar_members(archive: Path) -> Generator[Member, None, None]:
    with _named_faults(archive), archive.open("rb") as file:
        stream = ForwardReader(_decompressed(file))
        with tarfile.TarFile(fileobj=cast(IO[bytes], stream), mode="r") as container:
            while (info := container.next()) is not None:
                vars(container)["members"].clear()  # it would keep every header in memory
                _refuse_tar_member(info)
                yield Member(
                    info.name,
                    info.isdir(),
                    info.size,
                    lambda info=info: _chunks(  # type: ignore[misc]
                        archive, lambda: container.extractfile(info)
                    ),
                )
        if not stream.ended_with_zeros:
            raise DataError(f"{archive} is broken: it stops without an end mark", fix=BROKEN)
        stream.drain()


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    start = file.read(6)
    file.seek(0)
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return cast(IO[bytes], _OPENERS[name](file))
    return file


def _refuse_tar_member(info: tarfile.TarInfo) -> None:
    kinds = (
        (info.issym(), "is a symbolic link"), (info.islnk(), "is a hard link"),
        (info.isfifo(), "is a FIFO"), (info.isdev(), "is a device"),
        (info.issparse(), "is a sparse file"), (info.size < 0, "has a negative size"),
        (not (info.isreg() or info.isdir()), "is no plain file"),
    )  # fmt: skip
    problem = next((words for is_so, words in kinds if is_so), "")
    if problem:
        raise DataError(f"member {info.name!r} {problem}")


def _chunks(archive: Path, open_member: Callable[[], IO[bytes] | None]) -> Iterator[bytes]:
    with _named_faults(archive):
        stream = open_member()
    if stream is None:
        return
    with stream:
        while True:
            with _named_faults(archive):
                chunk = stream.read(CHUNK)
            if not chunk:
                return
            yield chunk


class ForwardReader:
    """A decompressed stream as ``tarfile`` wants it: seeks only forward, reads little at once.

    A header that announces gigabytes of path name is refused instead of being read.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0
        self.ended_with_zeros = False

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        parts: list[bytes] = []
        while size and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self._position += len(data)
        self.ended_with_zeros = len(data) == tarfile.BLOCKSIZE and not any(data)
        return data

    def drain(self) -> None:
        """Read to the end: the checksum of compressed data stands there."""
        for _ in range(MAX_PADDING // CHUNK):
            if not self._stream.read(CHUNK):
                return
        raise tarfile.ReadError(f"more than {MAX_PADDING} bytes after its end mark")

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self._position:
            raise tarfile.ReadError("a member that points backwards")
        while self._position < position:
            if not self.read(min(CHUNK, position - self._position)):
                break
        return self._position

    def close(self) -> None:
        self._stream.close()
