"""What an archive must be, and whether a file is that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from segbench.core.errors import ConfigError
from segbench.core.progress import track_bytes
from segbench.core.types import Archive
from segbench.datasets.download.disk import readable

CHUNK = 1 << 20
QUIET_BYTES = 1 << 30
"""Smaller files are read without a progress line."""
_LENGTHS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True)
class Expected:
    """Size and digest an archive must have, and who says so."""

    num_bytes: int | None = None
    digest: str = ""
    """``sha256:<hex>`` or ``md5:<hex>``; empty if nobody states one."""
    stated_by: str = "nobody"

    def __str__(self) -> str:
        size = "size unknown" if self.num_bytes is None else f"{self.num_bytes} bytes"
        return f"{size}, {self.digest or 'no digest published'}"


def expected_of(archive: Archive, digests: Mapping[str, str]) -> Expected:
    """Return what an archive must be; ``digests`` of the user stand above published ones."""
    if archive.name in digests:
        return Expected(None, digests[archive.name], "the user's list of digests")
    stated_by = "the publisher" if archive.digest else "nobody"
    return Expected(archive.num_bytes, archive.digest, stated_by)


def read_digests(path: Path) -> dict[str, str]:
    """Read a list as ``sha256sum`` writes it: a digest and a file name a line.

    Raises:
        ConfigError: The file cannot be read, or a line is no such pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the list of digests {path} cannot be read: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        digest, _, name = line.strip().partition(" ")
        name = Path(name.strip().removeprefix("*")).name
        if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef") or not name:
            raise ConfigError(
                f"{path}:{number}: expected a sha256 of 64 hex digits and a file name, "
                f"as `sha256sum` writes them; found {line[:100]!r}"
            )
        found[name] = f"sha256:{digest.lower()}"
    return found


def digests_of(path: Path, algorithms: frozenset[str], label: str) -> dict[str, str]:
    """Return ``{algorithm: hex}`` of a file, read once."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    size = path.stat().st_size

    def sizes(stream: BinaryIO) -> Iterator[int]:
        while chunk := stream.read(CHUNK):
            for each in hashes.values():
                each.update(chunk)
            yield len(chunk)

    with path.open("rb") as stream:
        chunks = sizes(stream)
        for _ in chunks if size < QUIET_BYTES else track_bytes(chunks, size, label):
            pass
    return {name: each.hexdigest() for name, each in hashes.items()}


def mismatch(path: Path, expected: Expected) -> tuple[str, str]:
    """Return what differs from the expectation (nothing if equal) and the sha256 of a file."""
    size = path.stat().st_size
    if expected.num_bytes not in (None, size):
        return f"has {size} bytes, expected {expected.num_bytes}", ""
    algorithm, _, wanted = expected.digest.partition(":")
    algorithms = frozenset({"sha256", algorithm} - {""})
    found = digests_of(path, algorithms, f"verify {path.name} ({readable(size)})")
    if algorithm and found[algorithm] != wanted.lower():
        return f"has the {algorithm} {found[algorithm]}, expected {wanted}", found["sha256"]
    return "", found["sha256"]
