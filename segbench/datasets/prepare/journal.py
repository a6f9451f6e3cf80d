"""The journal of a dataset being prepared: which images are done, on disk and not in memory.

The first line names the request; each further line is ``[number, entry]`` of one image, where
the number counts the images of the request in order. A line counts when it is whole and the
files it names have the digests it states, so that a kill at any instant costs one image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from segbench.core.errors import DataError
from segbench.core.files import write_text
from segbench.core.pool import in_threads
from segbench.core.provenance import file_digest

JOURNAL = ".prepare.jsonl"
FOLDERS = ("images", "semantic", "panoptic", "annotations")

Json = dict[str, Any]


class Journal:
    """The images already written, eight bytes each in memory, and the file that adds the next.

    Args:
        path: The journal.
        reader: It, open for reading.
        writer: It, open for appending without a buffer: what is not on the disk is not done.
        total: Number of images of the request.
    """

    def __init__(self, path: Path, reader: BinaryIO, writer: FileIO, total: int) -> None:
        self._path, self._reader, self._writer = path, reader, writer
        self._places = array("q", [-1]) * total

    def __len__(self) -> int:
        """Return how many images are done."""
        return sum(place >= 0 for place in self._places)

    def __contains__(self, number: int) -> bool:
        return self._places[number] >= 0

    def add(self, number: int, entry: Json) -> None:
        """Record an image whose files are written."""
        line = memoryview(json.dumps([number, entry]).encode() + b"\n")
        with _writing(self._path):
            place = self._writer.seek(0, 2)
            while line:
                line = line[self._writer.write(line) :]
        self._places[number] = place

    def recall(self, number: int, place: int) -> None:
        """Take an image of an earlier attempt for done."""
        self._places[number] = place

    def entries(self, numbers: Iterable[int]) -> Iterator[Json]:
        """Yield the entries of those images that are done, read one at a time."""
        for number in numbers:
            if number in self:
                self._reader.seek(self._places[number])
                yield json.loads(self._reader.readline())[1]


@contextmanager
def open_journal(out: Path, request: str, total: int) -> Iterator[Journal]:
    """Continue the journal of this request, or clear the folder and begin a new one."""
    path = out / JOURNAL
    with _writing(out):
        (out / "dataset.json").unlink(missing_ok=True)
        if _request_of(path) != request:
            _clear(out)
            write_text(path, json.dumps(request) + "\n")
        _sweep(out)
        writer = FileIO(path, "a")
    with writer, path.open("rb") as reader:
        journal = Journal(path, reader, writer, total)
        end = len(reader.readline())
        for line, whole in in_threads(lambda line: (line, _intact(out, line)), _lines(reader)):
            end = line.end
            if whole:
                journal.recall(line.number, line.place)
        with _writing(path):
            writer.truncate(end)
        yield journal


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name what could not be written: the disk is full, or the folder is not ours."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}",
            fix="free disk space or make the folder writable, then run the same command again",
        ) from error


def _request_of(path: Path) -> str | None:
    """Return the first line of a journal; None without one that is whole."""
    try:
        with path.open("rb") as stream:
            first = stream.readline()
        return str(json.loads(first)) if first.endswith(b"\n") else None
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class _Line:
    """One image in the journal: where its line begins and ends, its number, its entry."""

    place: int
    end: int
    number: int
    entry: Json


def _lines(stream: BinaryIO) -> Iterator[_Line]:
    """Yield the lines up to the first that is not whole."""
    place = stream.tell()
    while (text := stream.readline()).endswith(b"\n"):
        try:
            number, entry = json.loads(text)
        except ValueError:
            return
        yield _Line(place, place + len(text), number, entry)
        place += len(text)


def _intact(out: Path, line: _Line) -> bool:
    """Say whether all files of an entry are there with the digests it states."""
    row = line.entry["row"]
    return all(
        (out / row[key]).is_file() and file_digest(out / row[key]) == sha256
        for key, sha256 in row["sha256"].items()
    )


def foreign_files(out: Path, splits: Iterable[str]) -> list[str]:
    """Return all in a folder that is no part of a prepared form with these splits, sorted.

    Without a journal and a description none of it is.
    """
    names = set(_names(out))
    ours = re.compile(rf"\.{re.escape(JOURNAL)}\.[^/]+\.tmp")
    if names & {JOURNAL, "dataset.json"}:
        lists = {name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl")}
        earlier = {split for split in lists if (out / "images" / split).is_dir()}
        known = "|".join(map(re.escape, {*splits, *earlier}))
        top = rf"dataset\.json|\.prepare\.jsonl|(?:{known})\.jsonl"
        folders = "|".join(FOLDERS)
        ours = re.compile(
            rf"{top}|annotations/(?:instances|panoptic)_(?:{known})\.json"
            rf"|(?:images|semantic|panoptic)/(?:{known})/.+\.(?i:png|jpe?g)"
            rf"|\.(?:{top})\.[^/]+\.tmp|(?:{folders})/(?:.+/)?\.[^/]+\.tmp|(?:{folders})/(?:.+/)?"
        )
    return sorted(name for name in names if not ours.fullmatch(name))


def _names(out: Path) -> Iterator[str]:
    """Yield the files, links and empty folders (``x/``) below a folder."""
    for here, folders, files in os.walk(out):
        place = Path(here)
        links = [name for name in folders if (place / name).is_symlink()]
        yield from ((place / name).relative_to(out).as_posix() for name in (*files, *links))
        if not folders and not files and place != out:
            yield f"{place.relative_to(out).as_posix()}/"


def _clear(out: Path) -> None:
    (out / JOURNAL).unlink(missing_ok=True)
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
    for path in out.glob("*.jsonl"):
        path.unlink()


def _sweep(out: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    for folder in (out, *(out / name for name in FOLDERS)):
        pattern = ".*.tmp" if folder == out else "**/.*.tmp"
        for path in folder.glob(pattern):
            path.unlink()
