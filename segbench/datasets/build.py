"""Writing the images of a dataset so that a killed attempt can be continued.

Each finished image is one line of a journal beside the files; the first line names the
request it belongs to.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from segbench.datasets.files import ImageWriter, Json, check_raw_image
from segbench.datasets.source import RawImage, SourceImage
from segbench.errors import DataError
from segbench.formats import write_jsonl
from segbench.progress import track
from segbench.provenance import file_digest
from segbench.types import DatasetInfo

JOURNAL = ".prepare.jsonl"
FOLDERS = ("images", "semantic", "panoptic", "annotations")
SHOWN_FINDINGS = 20
WRITERS = 4
"""Threads that encode and sync files while the next image is made; disks are slow to sync."""

Splits = Mapping[str, Sequence[SourceImage]]


def image_key(split: str, item: SourceImage) -> str:
    """Return the name of an image in the journal."""
    return f"{split}/{item.stem}"


@dataclass
class Journal:
    """The images already written, and the file that records the next one."""

    done: dict[str, Json]
    stream: TextIO

    def add(self, key: str, entry: Json) -> None:
        self.done[key] = entry
        self.stream.write(json.dumps([key, entry]) + "\n")
        self.stream.flush()


@contextmanager
def open_journal(out: Path, request: str) -> Iterator[Journal]:
    """Continue the journal of this request, or clear the folder and begin a new one."""
    lines = _whole_lines(out / JOURNAL)
    (out / "dataset.json").unlink(missing_ok=True)
    if not lines or lines[0] != request:
        _clear(out)
        lines = []
    _sweep(out)
    done = {key: entry for key, entry in lines[1:] if _intact(out, entry)}
    write_jsonl(out / JOURNAL, [request, *done.items()])
    with (out / JOURNAL).open("a", encoding="utf-8") as stream:
        yield Journal(done, stream)


def _whole_lines(path: Path) -> list[Any]:
    """Return the values of a journal up to the first line that is not whole."""
    values: list[Any] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n")[:-1]:
        try:
            values.append(json.loads(line))
        except ValueError:
            break
    return values


def _intact(out: Path, entry: Json) -> bool:
    row = entry["row"]
    return all(
        (out / row[key]).is_file() and file_digest(out / row[key]) == sha256
        for key, sha256 in row["sha256"].items()
    )


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


def write_images(info: DatasetInfo, out: Path, *, splits: Splits, journal: Journal) -> None:
    """Write every image the journal lacks.

    Raises:
        DataError: Listing all images that cannot be used; the others are written.
    """
    findings: list[str] = []
    jobs = _jobs(info, out, splits=splits, done=set(journal.done), findings=findings)
    total, start = sum(len(items) for items in splits.values()), len(journal.done)
    for key, entry in track(_in_threads(jobs), total, f"prepare {info.name}", start=start):
        journal.add(key, entry)
    if findings:
        raise DataError(
            _listing(info.name, findings, total),
            fix="repair or remove these files and run the same command again; "
            "images that are done stay done",
        )


@dataclass(frozen=True)
class _Job:
    """One image that is read and waits to be written."""

    key: str
    writer: ImageWriter
    stem: str
    image_id: int
    raw: RawImage

    def run(self) -> tuple[str, Json]:
        return self.key, self.writer.write(self.stem, self.image_id, self.raw)


def _jobs(
    info: DatasetInfo, out: Path, *, splits: Splits, done: set[str], findings: list[str]
) -> Iterator[_Job]:
    """Read the images in order; what is wrong with one is added to the findings."""
    for split, items in splits.items():
        writer = ImageWriter(out, split, info.table)
        for number, item in enumerate(items, start=1):
            if image_key(split, item) in done:
                continue
            try:
                raw = item.load()
                check_raw_image(raw, info.table)
            except DataError as error:
                findings.append(f"{image_key(split, item)}: {error.what}")
                continue
            image_id = number if item.image_id is None else item.image_id
            yield _Job(image_key(split, item), writer, item.stem, image_id, raw)


def _in_threads(jobs: Iterable[_Job]) -> Iterator[tuple[str, Json]]:
    """Yield the results in order; images are read here, only written in threads."""
    waiting: deque[Future[tuple[str, Json]]] = deque()
    with ThreadPoolExecutor(WRITERS) as pool:
        for job in jobs:
            waiting.append(pool.submit(job.run))
            if len(waiting) > 2 * WRITERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _listing(name: str, findings: Sequence[str], total: int) -> str:
    shown = "".join(f"\n  {finding}" for finding in findings[:SHOWN_FINDINGS])
    rest = len(findings) - SHOWN_FINDINGS
    more = f"\n  and {rest} more" if rest > 0 else ""
    return f"{name}: {len(findings)} of {total} images cannot be used:{shown}{more}"
