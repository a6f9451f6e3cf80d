"""Scored folders as rows to compare: counts, protocol and what they are counts of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import Task
from segbench.evaluation.counts import load_counts
from segbench.evaluation.kinds import Counts
from segbench.evaluation.semantic.counts import SemanticCounts

_PARTS: dict[str, Task] = {
    "semantic": "semantic",
    "panoptic": "panoptic",
    "segm": "instance",
    "segm_boundary": "instance",
    "bbox": "instance",
    "segm_overlaps": "instance",
}


@dataclass(frozen=True, eq=False)
class ScoredFolder:
    """One row: the counts of each of its runs (seeds) under one protocol.

    ``split`` is ``<dataset>/<split>``, empty where the folder does not say.
    """

    name: str
    task: Task
    protocol: str
    split: str
    class_names: tuple[str, ...]
    runs: tuple[dict[str, Counts], ...]


def load_scored(folder: Path, *, split: str | None = None, task: str | None = None) -> ScoredFolder:
    """Read a row of a comparison.

    Args:
        folder: One of: a folder with ``counts.npz`` (``.../evaluation/<split>/<task>``, or what
            ``segbench score --out`` wrote); a run folder ``seed<k>``; an experiment folder with
            several of those, whose mean counts.
        split: Which split, if the run has several.
        task: Which task, likewise.

    Raises:
        DataError: Nothing is scored there, or more than one split or task is and none is named.
    """
    folder = Path(folder)
    if (folder / "counts.npz").exists():
        return _read(folder, str(folder))
    seeds = sorted(folder.glob("seed*"), key=lambda path: (len(path.name), path.name))
    chosen = [_choose(run, split, task) for run in ([folder] if _is_run(folder) else seeds)]
    if not chosen:
        raise DataError(
            f"{folder}: found no counts.npz, evaluation/ or seed folders",
            fix="name a run folder, or score it first with `segbench evaluate`",
        )
    return _join([_read(each, str(folder)) for each in chosen], folder)


def _is_run(folder: Path) -> bool:
    return (folder / "evaluation").is_dir()


def _choose(run: Path, split: str | None, task: str | None) -> Path:
    pattern = f"evaluation/{split or '*'}/{task or '*'}/counts.npz"
    found = sorted(path.parent for path in run.glob(pattern))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.relative_to(run).as_posix() for path in found)
    if not found:
        raise DataError(f"{run}: found no {pattern}", fix="run `segbench evaluate` on it")
    raise DataError(f"{run}: scored more than once: {names}", fix="choose by --split and --task")


def _read(folder: Path, name: str) -> ScoredFolder:
    counts = load_counts(folder / "counts.npz")
    record = _record(folder)
    protocol = record.get("protocol")
    if not isinstance(protocol, str):
        raise DataError(f"{folder}: the record names no protocol", fix="evaluate it again")
    known = [str(record[key]) for key in ("dataset", "split") if record.get(key)]
    return ScoredFolder(
        name,
        _PARTS[next(iter(counts))],
        protocol,
        "/".join(known),
        _class_names(next(iter(counts.values())), record.get("per_class") or []),
        (counts,),
    )


def _class_names(counts: Counts, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the name of each class of the counts, in their order."""
    if isinstance(counts, SemanticCounts):
        return tuple(str(row.get("name", i)) for i, row in enumerate(rows))
    names = {row.get("id"): str(row.get("name")) for row in rows}
    return tuple(names.get(i, str(i)) for i in counts.category_ids)


def _record(folder: Path) -> dict[str, Any]:
    for name in ("record.json", "scores.json"):
        if (folder / name).exists():
            return cast("dict[str, Any]", read_json(folder / name))
    raise DataError(
        f"{folder}: counts.npz has no record.json or scores.json beside it",
        fix="write it with `segbench evaluate` or `segbench score --out`",
    )


def _join(rows: Sequence[ScoredFolder], folder: Path) -> ScoredFolder:
    for row in rows[1:]:
        check_comparable(rows[0], row, names=f"the seeds of {folder}")
    first = rows[0]
    runs = tuple(run for row in rows for run in row.runs)
    return ScoredFolder(
        first.name, first.task, first.protocol, first.split, first.class_names, runs
    )


def check_comparable(
    first: ScoredFolder, other: ScoredFolder, *, names: str = "", any_protocol: bool = False
) -> None:
    """Refuse rows whose scores mean different things.

    Raises:
        DataError: Task, protocol, data set or split differ.
    """
    names = names or f"{first.name} and {other.name}"
    facts = {"tasks": (first.task, other.task), "splits": (first.split, other.split)}
    if not any_protocol:
        facts["protocols"] = (first.protocol, other.protocol)
    for what, (one, two) in facts.items():
        if one != two and (one and two):
            raise DataError(
                f"{names} have different {what}: '{one}' and '{two}'",
                fix="scores of different protocols are never compared: score both under one "
                "with --protocol" if what == "protocols" else "compare rows of one split and task",
            )  # fmt: skip
