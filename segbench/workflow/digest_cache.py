"""Digests of large files, remembered as long as size and time of the file stay the same."""

from __future__ import annotations

from pathlib import Path

from segbench.core import provenance
from segbench.core.errors import DataError
from segbench.core.files import read_json, write_json

NAME = ".digests.json"
LARGE = 64 << 20
"""Bytes from which on a digest is remembered: reading them takes longer than 0.05 s."""


class DigestCache:
    """Gives the sha256 of files under a results folder.

    Args:
        root: The results folder; ``.digests.json`` there keeps what was found.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known = _read(root / NAME)
        self._changed = False

    def of(self, path: Path) -> str:
        """Return the digest of a file."""
        facts = path.stat()
        if facts.st_size < LARGE:
            return provenance.file_digest(path)
        name = path.relative_to(self._root).as_posix()
        state = [facts.st_size, facts.st_mtime_ns]
        known = self._known.get(name)
        if not (isinstance(known, list) and known[:2] == state):
            self._known[name] = [*state, provenance.file_digest(path)]
            self._changed = True
        return str(self._known[name][2])

    def save(self) -> None:
        """Write what is new; a folder that cannot be written costs only time."""
        if self._changed:
            try:
                write_json(self._root / NAME, self._known)
            except DataError:
                return


def _read(path: Path) -> dict[str, list[object]]:
    try:
        found = read_json(path)
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
