"""Which member names of an archive may become files, and under which name.

The rules are those of a reader who trusts nobody: a name stays inside the folder on every
system, and no two members can meet in one file on a disk that ignores case or the way
accents are composed.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from segbench.core.errors import DataError

MAX_LENGTH = 1024
MAX_PART_BYTES = 255
MAX_DEPTH = 64
_DRIVE = re.compile(r"^[A-Za-z]:")


def safe_path(name: str) -> PurePosixPath:
    """Return the relative path of a member name; back slashes separate folders, as on Windows.

    Raises:
        DataError: The name is absolute, leaves the folder, has a drive letter, is empty, too
            long or no plain text.
    """
    text = name.replace("\\", "/")
    problem = _problem(text)
    if problem:
        raise DataError(f"member {name[:200]!r} {problem}")
    return PurePosixPath(*_parts(text))


def _parts(text: str) -> list[str]:
    return [part for part in text.split("/") if part not in ("", ".")]


def _problem(text: str) -> str:
    """Return what is wrong with a name, or nothing."""
    parts = _parts(text)
    if text.startswith("/"):
        return "has an absolute path"
    if any(_DRIVE.match(part) for part in parts):
        return "has a drive letter"
    if ".." in parts:
        return "leaves the folder with '..'"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        return "has control characters or bytes that are no text in its name"
    if len(text) > MAX_LENGTH or len(parts) > MAX_DEPTH:
        return f"has a path above {MAX_LENGTH} letters or {MAX_DEPTH} folders"
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"has a name of more than {MAX_PART_BYTES} bytes"
    return "" if parts else "has no name"


class SeenNames:
    """The names of an archive so far; ``add`` refuses one that meets another."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, bool]] = {}

    def add(self, path: PurePosixPath, *, is_folder: bool) -> None:
        """Take a member in; a folder may come any number of times, a file once.

        Raises:
            DataError: Naming both members that would be one file.
        """
        for folder in reversed(path.parents[:-1]):
            self._take(folder.as_posix(), is_folder=True)
        self._take(path.as_posix(), is_folder=is_folder)

    def _take(self, text: str, *, is_folder: bool) -> None:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
        if key not in self._known:
            self._known[key] = (text, is_folder)
            return
        before, was_folder = self._known[key]
        if before != text:
            raise DataError(f"members {before!r} and {text!r} are one name where case is ignored")
        if was_folder != is_folder:
            raise DataError(f"member {text!r} is a file and a folder")
        if not is_folder:
            raise DataError(f"member {text!r} comes twice")
