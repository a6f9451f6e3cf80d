"""The page of a dataset: its classes and how many pixels each has, splits, samples, rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segbench.evaluation.metrics import TASK_TITLES
from segbench.evaluation.protocol import Protocol, protocols
from segbench.report.board import Board
from segbench.report.site import Site

SAMPLES = 6
"""Images shown of each scored split, evenly spaced in file order."""
SHOWN_SKIPPED = 100
TOTAL = "All splits"


@dataclass(frozen=True)
class Amount:
    """Pixels of one class in one split; ``bar`` is a percentage of the largest share there."""

    pixels: int
    share: float
    bar: float

    @property
    def text(self) -> str:
        return share_text(self.share)


@dataclass(frozen=True)
class ClassRow:
    """One class; ``amounts`` are those of the columns of its table, empty without counts."""

    category: Mapping[str, Any]
    train_id: int
    rank: int
    amounts: tuple[Amount, ...]


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset, the one with most pixels first."""

    columns: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    absent: Mapping[str, int]
    """How many classes a split has no pixel of; splits that have all are left out."""


@dataclass(frozen=True)
class SplitRow:
    """One split: the official number of images and what is here."""

    name: str
    official: int | None
    found: int | None
    skipped: int
    pixels: int | None
    """Pixels that carry a class."""
    ignored: float | None
    """Share of all pixels that carry none."""

    @property
    def differs(self) -> bool:
        return None not in (self.official, self.found) and self.official != self.found


def dataset_pages(site: Site) -> None:
    """Write the page of every dataset of the boards that has been prepared."""
    for name in dict.fromkeys(board.dataset for board in site.boards):
        dataset = site.dataset(name)
        if dataset["page"]:
            boards = [board for board in site.boards if board.dataset == name]
            site.page("dataset.html.j2", dataset["page"], **_context(site, dataset, boards))


def _context(site: Site, dataset: Mapping[str, Any], boards: Sequence[Board]) -> dict[str, Any]:
    skipped = list(dataset.get("skipped") or ())
    tasks = [task for task in TASK_TITLES if task in dataset.get("tasks", ())]
    splits = dict.fromkeys(board.split for board in boards)
    samples = {s: site.galleries.samples(dataset["name"], s, tasks, SAMPLES) for s in splits}
    return {
        "dataset": dataset,
        "tasks": tasks,
        "boards": boards,
        "classes": class_table(dataset),
        "splits": split_rows(dataset),
        "samples": {split: images for split, images in samples.items() if images},
        "share_text": share_text,
        "rules": _rules(dataset, boards),
        "facts": _facts(dataset),
        "skipped": skipped[:SHOWN_SKIPPED],
        "num_skipped": len(skipped),
    }


def class_table(dataset: Mapping[str, Any]) -> ClassTable:
    """Return the classes with their pixels in each split, and in all splits if there are more."""
    categories = dataset["categories"]
    counts = {
        split: entry["pixels"] for split, entry in (dataset.get("class_histogram") or {}).items()
    }
    columns = dict(counts)
    if len(counts) > 1:
        columns = {TOTAL: [sum(pixels) for pixels in zip(*counts.values(), strict=True)], **counts}
    amounts = {name: _amounts(pixels) for name, pixels in columns.items()}
    order = list(range(len(categories)))
    if columns:
        first = next(iter(columns.values()))
        order.sort(key=lambda i: (-first[i], i))
    rows = tuple(
        ClassRow(categories[i], i, rank, tuple(column[i] for column in amounts.values()))
        for rank, i in enumerate(order, start=1)
    )
    absent = {split: sum(not n for n in pixels) for split, pixels in counts.items()}
    return ClassTable(tuple(columns), rows, {split: n for split, n in absent.items() if n})


def _amounts(pixels: Sequence[int]) -> list[Amount]:
    total, largest = max(sum(pixels), 1), max(max(pixels), 1)
    return [Amount(n, n / total, round(100 * n / largest, 1)) for n in pixels]


def share_text(share: float) -> str:
    """Return a share in percent with two digits that say something."""
    percent = 100 * share
    if 0 < percent < 0.01:
        return "<0.01 %"
    return f"{percent:.{1 if percent >= 10 or not percent else 2}f} %"


def split_rows(dataset: Mapping[str, Any]) -> list[SplitRow]:
    """Return every split, official or here, in the dataset's own order."""
    official = dataset.get("official_splits") or {}
    found = dataset.get("splits") or {}
    here = found if isinstance(found, Mapping) else dict.fromkeys(found)
    skipped = [entry.get("split") for entry in dataset.get("skipped") or ()]
    histogram = dataset.get("class_histogram") or {}
    return [
        SplitRow(
            name, official.get(name), here.get(name, 0), skipped.count(name),
            *_labelled(histogram.get(name)),
        )
        for name in dict.fromkeys([*official, *here])
    ]  # fmt: skip


def _labelled(entry: Mapping[str, Any] | None) -> tuple[int | None, float | None]:
    if not entry:
        return None, None
    pixels = sum(entry["pixels"])
    ignored = int(entry.get("ignored", 0))
    return pixels, ignored / max(pixels + ignored, 1)


def _rules(
    dataset: Mapping[str, Any], boards: Sequence[Board]
) -> list[tuple[str, str, Protocol | None]]:
    """Return task, id and text of every protocol: the dataset's own and those of its boards."""
    own = list((dataset.get("protocols") or {}).items())
    used = dict.fromkeys([*own, *((board.task, board.protocol) for board in boards)])
    known = {protocol.id: protocol for protocol in protocols()}
    return [(TASK_TITLES.get(task, task), name, known.get(name)) for task, name in used]


def _facts(dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    keys = ("licence", "citation", "homepage")
    facts = [(key, str(dataset.get(key) or "not stated")) for key in keys]
    options = dataset.get("options") or {}
    facts += [(f"option {key}", str(value)) for key, value in sorted(options.items())]
    return [*facts, ("data digest", str(dataset.get("digest") or "none"))]
