"""Folders of label-map PNGs, checked completely and counted under a protocol's numbering.

Every file is looked at before anything is refused, so one message names every kind of fault,
how often it occurs and the first three files. What is readable but suspicious (label ids
shifted by one, train ids in place of label ids) becomes a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from segbench.core.errors import DataError
from segbench.evaluation.counting.images import count_in_parts, load_for
from segbench.evaluation.protocols.cityscapes_labels import LABELS as CITYSCAPES
from segbench.evaluation.protocols.types import Protocol
from segbench.evaluation.semantic.counts import SemanticCounts, merge
from segbench.evaluation.semantic.instance_weighted import LabelCounts
from segbench.evaluation.semantic.instance_weighted import merge as merge_labels
from segbench.evaluation.semantic.label_maps import (
    EXAMPLES,
    FilePairs,
    Findings,
    Pairs,
    instance_file,
)
from segbench.evaluation.semantic.oddities import label_oddities

_CITYSCAPES_STEM = re.compile(r"^[^_]+_[^_]+_[^_]+")
"""City, sequence and frame, which a prediction's file name starts with."""


@dataclass(frozen=True)
class CountedFolder:
    """Counts of a folder and what looks wrong though it can be scored."""

    counts: SemanticCounts
    warnings: list[str]
    labels: LabelCounts | None = None
    """Cityscapes: pixels by label id, of instances too where every truth has its instanceIds."""


def count_folder(
    truth: Path,
    prediction: Path,
    *,
    protocol: Protocol,
    num_classes: int,
    boundary: bool = False,
    workers: int = 1,
) -> CountedFolder:
    """Count every truth of a folder against its prediction.

    Args:
        truth: Folder of one-channel PNGs; under Cityscapes' numbering its sub-folders too.
        prediction: Folder of PNGs of the same names (Cityscapes: same first three parts).
        protocol: Its ``labels`` say what the numbers mean.
        num_classes: C.
        boundary: Count boundaries too.
        workers: Processes that count images; the counts are the same for any number.

    Raises:
        DataError: A prediction is missing or twice there, or files have a fault; the message
            names each kind of fault, how often and the first three files.
    """
    code = protocol.labels
    pairs = pair_files(truth, prediction, by_frame=code == CITYSCAPES)
    named = code == CITYSCAPES and all(instance_file(file).is_file() for file, _ in pairs)
    given = FilePairs(pairs, code, num_classes, named, boundary)
    return count_pairs(given, prediction, label="count label maps", workers=workers)


def count_pairs(given: FilePairs, folder: Path, *, label: str, workers: int) -> CountedFolder:
    """Count pairs of files, of which there is at least one.

    Args:
        given: The files and how to read them.
        folder: Where the predictions lie, named in errors.
        label: What the work is called in the log.
        workers: Processes that count images.

    Raises:
        DataError: As ``count_folder`` says.
    """
    load_for(2 * len(given.pairs), given.pairs[0][0])
    found = Findings(given.code)
    for part in count_in_parts(given.count, len(given.pairs), label=label, workers=workers):
        found.add(part)
    truths = os.path.commonpath([truth.parent for truth, _ in given.pairs])
    found.raise_faults(folder, Path(truths))
    counts = merge(found.counts)
    warnings = label_oddities(found.pooled, counts, given.code, given.num_classes)
    labels = merge_labels(found.labels) if found.labels else None
    return CountedFolder(counts, warnings, labels)


def pair_frames(truth: Path, prediction: Path, *, truths: str, predictions: str) -> Pairs:
    """Pair Cityscapes files of two patterns, in sub-folders too, by city, sequence and frame."""
    _expect_folders(truth, prediction)
    found = _files(truth, f"**/{truths}")
    if not found:
        raise DataError(f"{truth} holds no {truths} files")
    return _pair(found, _by_key(prediction, f"**/{predictions}", _frame), prediction, _frame)


def _expect_folders(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder of label maps")


def pair_files(truth: Path, prediction: Path, *, by_frame: bool = False) -> Pairs:
    """Pair label maps by file name; every truth needs exactly one prediction.

    Args:
        truth: Folder of the ground truth.
        prediction: Folder of the predictions.
        by_frame: Cityscapes: look into sub-folders and pair by city, sequence and frame.
    """
    if by_frame:
        return pair_frames(truth, prediction, truths="*_labelIds.png", predictions="*.png")
    _expect_folders(truth, prediction)
    truths = _files(truth, "*.png")
    if not truths:
        raise DataError(f"{truth} holds no PNG files")
    return _pair(truths, _by_key(prediction, "*.png", _name), prediction, _name)


def _files(folder: Path, pattern: str) -> list[Path]:
    """Return what matches below a folder in the order of paths.

    What is hidden is passed over, and what lies in a hidden folder: macOS keeps its notes on
    ``0.png`` in ``._0.png``, notebooks keep copies in ``.ipynb_checkpoints``.
    """
    depth = len(folder.parts)
    found = [path for path in folder.glob(pattern) if not _is_hidden(path.parts[depth:])]
    return sorted(found, key=attrgetter("parts"))


def _is_hidden(parts: Iterable[str]) -> bool:
    """Say whether a name in a path starts with a dot."""
    return any(part.startswith(".") for part in parts)


def _name(path: Path) -> str:
    return path.name


def _frame(path: Path) -> str:
    found = _CITYSCAPES_STEM.match(path.stem)
    return found.group() if found else path.stem


def _by_key(folder: Path, pattern: str, key: Callable[[Path], str]) -> Mapping[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _files(folder, pattern):
        found.setdefault(key(path), []).append(path)
    return found


def _pair(
    truths: Sequence[Path],
    predictions: Mapping[str, list[Path]],
    folder: Path,
    key: Callable[[Path], str],
) -> Pairs:
    missing = [path.name for path in truths if key(path) not in predictions]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(truths)} predictions are missing: "
            f"{', '.join(missing[:EXAMPLES])}",
            fix="a partial result is never scored: predict every image",
        )
    double = [path.name for path in truths if len(predictions[key(path)]) > 1]
    if double:
        raise DataError(
            f"{folder}: {len(double)} truths have more than one prediction: "
            f"{', '.join(double[:EXAMPLES])}",
            fix="keep one prediction a truth",
        )
    return [(path, predictions[key(path)][0]) for path in truths]
