"""The unfinished file of a download, ``<name>.part``, and what is known of its source.

Beside it lies ``<name>.part.json`` with the address, the version tag and the size the server
named, so that a later attempt appends only bytes of the same version.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from segbench.core.errors import DataError
from segbench.core.files import read_json, write_json


@dataclass(frozen=True)
class Version:
    """Which bytes a server offers: where, which version, how many."""

    url: str = ""
    etag: str = ""
    modified: str = ""
    total: int | None = None

    @classmethod
    def of_headers(cls, url: str, headers: Mapping[str, str], total: int | None) -> Version:
        """Return the version an answer names; weak tags promise no equal bytes."""
        etag = headers.get("ETag", "")
        etag = "" if etag.startswith("W/") else etag
        return cls(url, etag, headers.get("Last-Modified", ""), total)

    @property
    def validator(self) -> str:
        """The value of ``If-Range``, empty if the server names no version."""
        return self.etag or self.modified

    def contradicts(self, other: Version, *, same_address: bool) -> bool:
        """Tell whether two answers are of different bytes; tags compare at one address only."""
        sizes = self.total, other.total
        if None not in sizes and sizes[0] != sizes[1]:
            return True
        pairs = ((self.etag, other.etag), (self.modified, other.modified))
        return same_address and any(a and b and a != b for a, b in pairs)


class Part:
    """``target.part`` and its version; ``target`` appears only when the bytes are verified."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._facts = target.with_name(target.name + ".part.json")

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def version(self) -> Version:
        try:
            return Version(**read_json(self._facts))
        except (DataError, TypeError):
            return Version()

    def begin(self, version: Version) -> None:
        """Start from the first byte of a version."""
        self.remove()
        write_json(self._facts, asdict(version))
        self.path.touch()

    def remove(self) -> None:
        """Forget what is there."""
        for path in (self.path, self._facts):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the verified bytes their final name."""
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self.target)
        self._facts.unlink(missing_ok=True)
