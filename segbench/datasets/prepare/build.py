"""Writing the images of a dataset, in several processes, so that a killed attempt goes on.

An image is read, checked and written by one process; what comes back is its entry, plain JSON
that goes into the journal at once. So memory holds the images in work and no others.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from segbench.core.errors import ConfigError, DataError
from segbench.core.pool import SMALLEST, in_processes
from segbench.core.progress import say, track
from segbench.core.types import CategoryTable, DatasetInfo
from segbench.datasets.prepare.image_files import ImageWriter, Json, check_raw_image
from segbench.datasets.prepare.journal import Journal
from segbench.datasets.registry import dataset_module
from segbench.datasets.source import SourceImage

SHOWN_FINDINGS = 20

Splits = Mapping[str, Sequence[SourceImage]]
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BadImage:
    """One image that cannot be used, and why."""

    split: str
    stem: str
    what: str

    def __str__(self) -> str:
        return f"{self.split}/{self.stem}: {self.what}"


@dataclass(frozen=True)
class ImageJob:
    """One image of the request; ``number`` counts them all in order."""

    number: int
    split: str
    image_id: int
    item: SourceImage


def image_jobs(splits: Splits) -> Iterator[ImageJob]:
    """Yield every image of every split in order; ids count from 1 unless they are official."""
    number = 0
    for split, items in splits.items():
        for position, item in enumerate(items, start=1):
            image_id = position if item.image_id is None else item.image_id
            yield ImageJob(number, split, image_id, item)
            number += 1


def numbers_of(splits: Splits) -> dict[str, range]:
    """Return the numbers that :func:`image_jobs` gives the images of each split."""
    numbers, begin = {}, 0
    for split, items in splits.items():
        numbers[split] = range(begin, begin + len(items))
        begin += len(items)
    return numbers


def write_images(
    info: DatasetInfo, out: Path, *, splits: Splits, journal: Journal, workers: int = 1
) -> list[BadImage]:
    """Write every image the journal lacks; return those that cannot be used.

    Raises:
        DataError: The disk is full, or a worker process was killed.
    """
    total = sum(len(items) for items in splits.values())
    begin = len(journal)
    jobs = (job for job in image_jobs(splits) if job.number not in journal)
    results = for_each(
        partial(_write, out), jobs, total - begin,
        name=info.name, table=info.table, workers=workers,
    )  # fmt: skip
    findings = []
    for number, found in track(results, total, f"prepare {info.name}", start=begin):
        if isinstance(found, BadImage):
            findings.append(found)
        else:
            journal.add(number, found)
    return findings


def for_each(
    work: Callable[[CategoryTable, Job], Result],
    jobs: Iterator[Job],
    count: int,
    *,
    name: str,
    table: CategoryTable,
    workers: int,
) -> Iterator[Result]:
    """Yield ``work(table, job)`` of every job in order, in processes or, of few jobs, here.

    Args:
        work: A function of a module, or a partial of one.
        jobs: The images.
        count: How many there are.
        name: The dataset; its file may be outside the package.
        table: Its classes, sent to each process once.
        workers: Number of processes.
    """
    if workers > 1 and count >= SMALLEST:
        first = next(jobs)
        jobs = chain([first], jobs)
        if _can_travel(first):
            return in_processes(
                partial(_in_worker, work), jobs,
                workers=workers, begin=_begin, arguments=(name, table),
            )  # fmt: skip
        say(f"{name}: one process, because its `load` is not a function of a module")
    return (work(table, job) for job in jobs)


def _can_travel(job: object) -> bool:
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


_worker: dict[str, CategoryTable] = {}
"""What a worker process keeps between jobs."""


def _begin(name: str, table: CategoryTable) -> None:
    """Import the file of the dataset: one outside the package is not found by its name."""
    with suppress(ConfigError):  # a prepared folder may outlive the file that made it
        dataset_module(name)
    _worker["table"] = table


def _in_worker(work: Callable[[CategoryTable, Job], Result], job: Job) -> Result:
    return work(_worker["table"], job)


def _write(out: Path, table: CategoryTable, job: ImageJob) -> tuple[int, Json | BadImage]:
    """Read, check and write one image; or say why it cannot be used."""
    try:
        raw = job.item.load()
        check_raw_image(raw, table)
    except DataError as error:
        return job.number, BadImage(job.split, job.item.stem, error.what)
    except Exception as error:
        error.add_note(f"while reading image '{job.item.stem}' of split '{job.split}'")
        raise
    entry = ImageWriter(out, job.split, table).write(job.item.stem, job.image_id, raw)
    return job.number, entry


def refuse(name: str, findings: Sequence[BadImage], total: int) -> None:
    """Raise a ``DataError`` that lists the images that cannot be used, if there are any."""
    if not findings:
        return
    shown = "".join(f"\n  {finding}" for finding in findings[:SHOWN_FINDINGS])
    rest = len(findings) - SHOWN_FINDINGS
    more = f"\n  and {rest} more" if rest > 0 else ""
    raise DataError(
        f"{name}: {len(findings)} of {total} images cannot be used:{shown}{more}",
        fix="repair or remove these files and run the same command again; images that are "
        f"done stay done. `segbench check-data {name}` lists everything",
    )
