"""Pairs of label-map PNGs counted in parts, and what is wrong with some of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IntArray
from segbench.evaluation.protocols.cityscapes_labels import LABELS as CITYSCAPES
from segbench.evaluation.protocols.cityscapes_labels import MAX_LABEL_ID
from segbench.evaluation.protocols.label_codes import UNKNOWN, LabelCode
from segbench.evaluation.semantic.counts import (
    SemanticCounts,
    count_ids,
    from_table,
    merge,
    with_boundaries,
)
from segbench.evaluation.semantic.instance_weighted import (
    LabelCounts,
    count_instances,
    count_labels,
)
from segbench.evaluation.semantic.instance_weighted import merge as merge_labels
from segbench.formats.image_size import WrongSize
from segbench.formats.label_maps import read_label_map

EXAMPLES = 3
_TRUTHS = "truths"
"""How the kinds of faults of the ground truth begin."""
Pairs = list[tuple[Path, Path]]


@dataclass
class Findings:
    """Counts of label maps and what is wrong with some of them.

    ``labels``: Cityscapes: pixels by label id. ``errors``: of instance maps.
    """

    code: LabelCode
    counts: list[SemanticCounts] = field(default_factory=list)
    labels: list[LabelCounts] = field(default_factory=list)
    pooled: IntArray = field(default_factory=lambda: np.zeros((256, 256), dtype=np.int64))
    faults: dict[str, list[str]] = field(default_factory=dict)
    errors: list[DataError] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Append the findings of the images that follow."""
        self.counts += other.counts
        self.labels += other.labels
        self.pooled += other.pooled
        self.errors += other.errors
        for kind, found in other.faults.items():
            self.faults.setdefault(kind, []).extend(found)

    def joined(self) -> Findings:
        """Return the same with the counts of all images in one."""
        self.counts = [merge(self.counts)] if self.counts else []
        self.labels = [merge_labels(self.labels)] if self.labels else []
        return self

    def raise_faults(self, folder: Path, truths: Path) -> None:
        """Raise one error over all faults that were found in two folders."""
        lines = [
            f"{truths if kind.startswith(_TRUTHS) else folder}: {len(found)} {kind}; first "
            f"{', '.join(found[:EXAMPLES])}"
            for kind, found in self.faults.items()
        ]
        if lines:
            fix = f"one 8-bit grey or palette PNG an image at its own size; {self.code.meaning}"
            raise DataError("\n".join(lines), fix=fix)
        if self.errors:
            raise self.errors[0]


@dataclass(frozen=True)
class FilePairs:
    """Pairs of files to count; ``instances`` says that Cityscapes' instance maps are there."""

    pairs: Pairs
    code: LabelCode
    num_classes: int
    instances: bool
    boundary: bool = False

    def count(self, images: range) -> Findings:
        counter = _Counter(self, Findings(self.code))
        for i in images:
            counter.add(*self.pairs[i])
        return counter.found.joined()


@dataclass(frozen=True)
class _Counter:
    """Counts file pairs and collects what is wrong with them."""

    given: FilePairs
    found: Findings

    def add(self, truth_path: Path, prediction_path: Path) -> None:
        """Count one pair, or note its fault."""
        truth = self._read(truth_path, _TRUTHS)
        size = None if truth is None else truth.shape
        prediction = self._read(prediction_path, "predictions", size)
        if truth is None or prediction is None:
            return
        table = count_ids(truth, prediction)
        right = [
            self._in_range(truth, table.sum(axis=1), truth_path, _TRUTHS),
            self._in_range(prediction, table.sum(axis=0), prediction_path, "predictions"),
        ]
        if all(right):
            self.found.pooled += table
            self._keep(table, truth_path, truth, prediction)

    def _keep(
        self, table: IntArray, truth_path: Path, truth: IntArray, prediction: IntArray
    ) -> None:
        code, num_classes = self.given.code, self.given.num_classes
        codes = code.truth_table(num_classes), code.prediction_table(num_classes)
        counts = from_table(
            table,
            truth=codes[0],
            prediction=codes[1],
            num_classes=num_classes,
            image_id=truth_path.stem,
        )
        if self.given.boundary:
            counts = with_boundaries(counts, codes[0][truth], codes[1][prediction])
        self.found.counts.append(counts)
        if code == CITYSCAPES:
            labels = table[: MAX_LABEL_ID + 1, : MAX_LABEL_ID + 1]
            instances = self._instances(truth_path, prediction) if self.given.instances else None
            self.found.labels.append(count_labels(labels, instances, image_id=truth_path.stem))

    def _instances(self, truth_path: Path, prediction: IntArray) -> IntArray:
        file = instance_file(truth_path)
        try:
            return count_instances(read_label_map(file, size=prediction.shape), prediction)
        except DataError as error:
            what = error.what.removeprefix(f"{file}: ")
            self.found.errors.append(DataError(f"{file}: {what}", fix=error.fix))
            return np.zeros((0, 4), dtype=np.int64)

    def _read(self, path: Path, side: str, size: tuple[int, ...] | None = None) -> IntArray | None:
        """Read a label map, or note its fault; ``size`` is that of its ground truth."""
        try:
            return read_label_map(path, size=size)
        except WrongSize as error:
            example = f"{path.name} {_size(error.found)} for {_size(size or ())}"
            self._fault("predictions have another size than their truth", example)
            return None
        except DataError as error:
            reason = error.what.replace(str(path), "").strip(": ")
            self._fault(f"{side} cannot be read as label maps", f"{path.name} ({reason})")
            return None

    def _in_range(self, labels: IntArray, pixels: IntArray, path: Path, side: str) -> bool:
        """Note numbers that mean nothing; ``pixels`` [256] counts those of a uint8 map."""
        code = self.given.code
        make = code.truth_table if side == _TRUTHS else code.prediction_table
        known = make(self.given.num_classes) != UNKNOWN
        if labels.dtype == np.uint8:
            unknown = np.flatnonzero((pixels > 0) & ~known)
        else:
            unknown = np.setdiff1d(labels, np.flatnonzero(known))
        if len(unknown):
            example = f"{path.name} {unknown[:EXAMPLES].tolist()}"
            self._fault(f"{side} hold numbers outside {describe(code)}", example)
        return not len(unknown)

    def _fault(self, kind: str, example: str) -> None:
        self.found.faults.setdefault(kind, []).append(example)


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def describe(code: LabelCode) -> str:
    """Return how a numbering is called in messages."""
    return f"the '{code.name}' numbering"


def instance_file(truth: Path) -> Path:
    """Return where Cityscapes keeps the instances of a ground truth."""
    return truth.with_name(truth.name.replace("labelIds", "instanceIds"))
