"""Folders of label-map PNGs, checked completely and counted under a protocol's numbering.

Every file is looked at before anything is refused, so one message names every kind of fault,
how often it occurs and the first three files. What is readable but suspicious (label ids
shifted by one, train ids in place of label ids) becomes a warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segbench.errors import DataError
from segbench.evaluation._protocol_types import Protocol
from segbench.evaluation.cityscapes import LABELS as CITYSCAPES
from segbench.evaluation.cityscapes import MAX_LABEL_ID
from segbench.evaluation.cityscapes_instances import LabelCounts, count_instances, count_labels
from segbench.evaluation.cityscapes_instances import merge as merge_labels
from segbench.evaluation.label_codes import TRAIN_IDS, UNKNOWN, LabelCode
from segbench.evaluation.semantic import SemanticCounts, count_ids, from_table, merge
from segbench.formats import read_label_map
from segbench.progress import track
from segbench.types import IntArray

_EXAMPLES = 3
_CITYSCAPES_STEM = re.compile(r"^[^_]+_[^_]+_[^_]+")
"""City, sequence and frame, which a prediction's file name starts with."""
Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True)
class CountedFolder:
    """Counts of a folder and what looks wrong though it can be scored."""

    counts: SemanticCounts
    warnings: list[str]
    labels: LabelCounts | None = None
    """Cityscapes: pixels by label id, of instances too where every truth has its instanceIds."""


def count_folder(
    truth: Path, prediction: Path, *, protocol: Protocol, num_classes: int
) -> CountedFolder:
    """Count every truth of a folder against its prediction.

    Args:
        truth: Folder of one-channel PNGs; under Cityscapes' numbering its sub-folders too.
        prediction: Folder of PNGs of the same names (Cityscapes: same first three parts).
        protocol: Its ``labels`` say what the numbers mean.
        num_classes: C.

    Raises:
        DataError: A prediction is missing or twice there, or files have a fault; the message
            names each kind of fault, how often and the first three files.
    """
    code = protocol.labels
    pairs = pair_files(truth, prediction, by_frame=code is CITYSCAPES)
    counter = _Counter(code, num_classes)
    parts = [counter.add(*pair) for pair in track(pairs, len(pairs), "count label maps")]
    counter.raise_faults(prediction)
    known = [part for part in parts if part is not None]
    warnings = suspicions(counter.pooled, code, num_classes)
    return CountedFolder(merge(known), warnings, _label_counts(pairs, counter.tables))


def _label_counts(pairs: Pairs, tables: Sequence[IntArray]) -> LabelCounts | None:
    """Return the pixels by label id; ``tables`` is empty under other numberings."""
    if not tables:
        return None
    named = all(_instance_file(truth).is_file() for truth, _ in pairs)
    return merge_labels(
        [
            count_labels(table, _instances(*pair) if named else None, image_id=pair[0].stem)
            for pair, table in zip(pairs, tables, strict=True)
        ]
    )


def _instances(truth: Path, prediction: Path) -> IntArray:
    file = _instance_file(truth)
    try:
        return count_instances(read_label_map(file), read_label_map(prediction))
    except DataError as error:
        raise DataError(f"{file}: {error.what}", fix=error.fix) from error


def _instance_file(truth: Path) -> Path:
    return truth.with_name(truth.name.replace("labelIds", "instanceIds"))


def pair_frames(truth: Path, prediction: Path, *, truths: str, predictions: str) -> Pairs:
    """Pair Cityscapes files of two patterns, in sub-folders too, by city, sequence and frame."""
    _expect_folders(truth, prediction)
    found = sorted(truth.glob(f"**/{truths}"))
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
        truth: Folder of the truth.
        prediction: Folder of the predictions.
        by_frame: Cityscapes: look into sub-folders and pair by city, sequence and frame.
    """
    if by_frame:
        return pair_frames(truth, prediction, truths="*_labelIds.png", predictions="*.png")
    _expect_folders(truth, prediction)
    truths = sorted(truth.glob("*.png"))
    if not truths:
        raise DataError(f"{truth} holds no PNG files")
    return _pair(truths, _by_key(prediction, "*.png", _name), prediction, _name)


def _name(path: Path) -> str:
    return path.name


def _frame(path: Path) -> str:
    found = _CITYSCAPES_STEM.match(path.stem)
    return found.group() if found else path.stem


def _by_key(folder: Path, pattern: str, key: Callable[[Path], str]) -> Mapping[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(pattern)):
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
            f"{', '.join(missing[:_EXAMPLES])}",
            fix="a partial result is never scored: predict every image",
        )
    double = [path.name for path in truths if len(predictions[key(path)]) > 1]
    if double:
        raise DataError(
            f"{folder}: {len(double)} truths have more than one prediction: "
            f"{', '.join(double[:_EXAMPLES])}",
            fix="keep one prediction a truth",
        )
    return [(path, predictions[key(path)][0]) for path in truths]


@dataclass
class _Counter:
    """Counts file pairs and collects what is wrong with them."""

    code: LabelCode
    num_classes: int
    pooled: IntArray = field(default_factory=lambda: np.zeros((256, 256), dtype=np.int64))
    faults: dict[str, list[str]] = field(default_factory=dict)
    tables: list[IntArray] = field(default_factory=list)
    """Cityscapes: [34, 34] pixels of pairs of label ids, an image each."""

    def add(self, truth_path: Path, prediction_path: Path) -> SemanticCounts | None:
        """Return the counts of one pair; None when it has a fault."""
        truth = self._read(truth_path, "truths")
        prediction = self._read(prediction_path, "predictions")
        if truth is None or prediction is None:
            return None
        if truth.shape != prediction.shape:
            found = f"{prediction_path.name} {_size(prediction)} for {_size(truth)}"
            self._fault("predictions have another size than their truth", found)
            return None
        table = count_ids(truth, prediction)
        right = [
            self._in_range(truth, table.sum(axis=1), truth_path, "truths"),
            self._in_range(prediction, table.sum(axis=0), prediction_path, "predictions"),
        ]
        if not all(right):
            return None
        self.pooled += table
        if self.code is CITYSCAPES:
            self.tables.append(table[: MAX_LABEL_ID + 1, : MAX_LABEL_ID + 1].copy())
        return from_table(
            table,
            truth=self.code.truth_table(self.num_classes),
            prediction=self.code.prediction_table(self.num_classes),
            num_classes=self.num_classes,
            image_id=truth_path.stem,
        )

    def _read(self, path: Path, side: str) -> IntArray | None:
        try:
            return read_label_map(path)
        except DataError as error:
            reason = error.what.replace(str(path), "").strip(": ")
            self._fault(f"{side} cannot be read as label maps", f"{path.name} ({reason})")
            return None

    def _in_range(self, labels: IntArray, pixels: IntArray, path: Path, side: str) -> bool:
        """Note numbers that mean nothing; ``pixels`` [256] counts those of a uint8 map."""
        make = self.code.truth_table if side == "truths" else self.code.prediction_table
        known = make(self.num_classes) != UNKNOWN
        if labels.dtype == np.uint8:
            unknown = np.flatnonzero((pixels > 0) & ~known)
        else:
            unknown = np.setdiff1d(labels, np.flatnonzero(known))
        if len(unknown):
            found = f"{path.name} {unknown[:_EXAMPLES].tolist()}"
            self._fault(f"{side} hold numbers outside {describe(self.code)}", found)
        return not len(unknown)

    def _fault(self, kind: str, example: str) -> None:
        self.faults.setdefault(kind, []).append(example)

    def raise_faults(self, folder: Path) -> None:
        """Raise one error over all faults that were found."""
        lines = [
            f"{folder}: {len(found)} {kind}; first {', '.join(found[:_EXAMPLES])}"
            for kind, found in self.faults.items()
        ]
        if lines:
            fix = f"one 8-bit grey or palette PNG an image at its own size; {self.code.meaning}"
            raise DataError("\n".join(lines), fix=fix)


def _size(labels: IntArray) -> str:
    return f"{labels.shape[0]}x{labels.shape[1]}"


def describe(code: LabelCode) -> str:
    """Return how a numbering is called in messages."""
    return f"the '{code.name}' numbering"


def suspicions(pooled: IntArray, code: LabelCode, num_classes: int) -> list[str]:
    """Return a warning for each other reading of the predictions that agrees far better.

    Args:
        pooled: [256, 256] pixels of pairs of numbers, rows truth.
        code: The numbering the files should have.
        num_classes: C.
    """
    truth = code.truth_table(num_classes)
    stated = _agreement(pooled, truth, code.prediction_table(num_classes), num_classes)
    readings = {
        "are one too low (a zero label reduced that should not be, or reduced twice)": 1,
        "are one too high (a zero label not reduced)": -1,
    }
    found = []
    for problem, shift in readings.items():
        shifted = np.roll(code.prediction_table(num_classes), -shift)
        found += _compare(_agreement(pooled, truth, shifted, num_classes), stated, problem)
    if code.ids:
        train_ids = TRAIN_IDS.prediction_table(num_classes)
        agreement = _agreement(pooled, truth, train_ids, num_classes)
        found += _compare(agreement, stated, f"are train ids in place of '{code.name}'")
    return found


def _agreement(pooled: IntArray, truth: IntArray, prediction: IntArray, num_classes: int) -> float:
    """Return the share of labelled pixels whose two numbers mean one class."""
    labelled = (truth >= 0) & (truth < num_classes)
    total = int(pooled[labelled].sum())
    same = (truth[:, None] == prediction[None, :]) & labelled[:, None]
    return int(pooled[same].sum()) / total if total else 0.0


def _compare(other: float, stated: float, problem: str) -> list[str]:
    if other <= max(2 * stated, 0.2):
        return []
    return [
        f"it looks as if the predicted numbers {problem}: pixel accuracy is "
        f"{100 * stated:.1f} as stated and would be {100 * other:.1f}"
    ]
