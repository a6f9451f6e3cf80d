"""The lists in a JSON file, one entry at a time: annotation files are larger than memory.

A file is read in pieces, as Latin-1, so that places in the text are places in the file; an
entry that is needed later is read again from its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError

_PIECE = 1 << 20
_SPACE = " \t\r\n"
_ENDS = frozenset(_SPACE + ",:]}")
"""What may stand behind a value."""


@dataclass(frozen=True)
class Entry:
    """One entry of a top-level list: its key, its value and where it stands in the file.

    Text beyond ASCII is garbled in ``value``: ``read_entries`` and ``plain_text`` have it whole.
    """

    key: str
    value: Any
    begin: int
    length: int


def read_entries(path: Path, places: Sequence[int]) -> list[Any]:
    """Return the entries that stand at places of a file: begin, length, begin, length, ..."""
    found = []
    with path.open("rb") as stream:
        for begin, length in zip(places[::2], places[1::2], strict=True):
            stream.seek(begin)
            found.append(json.loads(stream.read(length)))
    return found


def plain_text(garbled: str) -> str:
    """Return a text of ``Entry.value`` as the file means it."""
    try:
        return garbled.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return garbled  # it was written with escapes


def iter_lists(path: Path, keys: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of all lists of the top-level object, in the order of the file.

    Other values are skipped.

    Raises:
        DataError: The file is missing, no JSON object, or lacks a list of ``keys``.
    """
    try:
        with path.open("rb") as stream:
            reader = _Reader(path, stream)
            yield from reader.entries()
    except OSError as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise DataError(f"{path} {what}") from error
    for key in keys:
        if key not in reader.lists:
            raise DataError(f"{path}: expected a JSON object with a list '{key}'")


class _Reader:
    """A window on the text of the file that moves on as values are taken from it."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path, self._stream = path, stream
        self._text, self._at, self._start = "", 0, 0
        self.lists: set[str] = set()
        self._decode = json.JSONDecoder().raw_decode

    def entries(self) -> Iterator[Entry]:
        self._expect("{")
        while self._peek() != "}":
            key, _, _ = self._value()
            self._expect(":")
            if self._peek() == "[":
                yield from self._list(str(key))
            else:
                self._value()
            if self._peek() == ",":
                self._expect(",")
        self._expect("}")
        if self._peek():
            raise self._error("more text after its end")

    def _list(self, key: str) -> Iterator[Entry]:
        self.lists.add(key)
        self._expect("[")
        while self._peek() != "]":
            value, begin, length = self._value()
            yield Entry(key, value, begin, length)
            if self._peek() == ",":
                self._expect(",")
            elif self._peek() != "]":
                raise self._error("expected ',' or ']' after an entry")
        self._expect("]")

    def _peek(self) -> str:
        """Return the next character that is no space; '' at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise self._error(f"expected '{character}', found {found!r}")
        self._at += 1

    def _value(self) -> tuple[Any, int, int]:
        """Return the next value, its place and its length; read on until it is whole."""
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                # a number may go on in the next piece: '0' of '0.5'
                if self._text[end : end + 1] in _ENDS or not self._more():
                    break
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._error(error.msg) from error
            except RecursionError as error:
                raise self._error("nested too deeply") from error
        begin, length = self._start + self._at, end - self._at
        self._at = end
        return value, begin, length

    def _more(self) -> bool:
        """Drop what is behind, add as much as is kept, at least a piece; False at the end."""
        self._text, self._start = self._text[self._at :], self._start + self._at
        self._at = 0
        piece = self._stream.read(max(_PIECE, len(self._text))).decode("latin-1")
        self._text += piece
        return bool(piece)

    def _error(self, what: str) -> DataError:
        place = self._start + self._at
        return DataError(f"{self._path} is not valid JSON: {what} at byte {place}")
