"""Instance predictions in Cityscapes' own form: a text file an image, a mask PNG a detection.

    <city>_<sequence>_<frame>*.txt     lines "mask.png labelID confidence", paths from that file
    <city>_<sequence>_<frame>*_instanceIds.png     the ground truth

Every file is looked at before anything is refused, so one message names every kind of fault,
how often it occurs and the first three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from segbench.core.errors import DataError
from segbench.core.types import BoolArray, IntArray
from segbench.evaluation.cityscapes.average_precision import OverlapCounts, merge
from segbench.evaluation.counting.images import count_in_parts, load_for
from segbench.evaluation.protocols.cityscapes_labels import IGNORED_IDS, MAX_LABEL_ID, THING_IDS
from segbench.evaluation.semantic.folders import pair_frames
from segbench.evaluation.semantic.instance_weighted import INSTANCES_FROM, check_numbers, label_of
from segbench.evaluation.semantic.label_maps import Pairs
from segbench.formats.image_size import WrongSize, opened
from segbench.formats.label_maps import read_label_map

_EXAMPLES = 3
_MASKS = 10
"""Masks an image may have, to judge whether compiled loops are worth loading."""
_FORM = "text files with lines 'mask.png labelID confidence'"
_MASK_MODES = ("1", "L", "P")
_FIX = (
    "a text file an image with lines 'mask.png labelID confidence': masks are 8-bit PNGs of the "
    "image's size inside the folder, non-zero inside the object; label ids, not train ids"
)


@dataclass(frozen=True)
class _Detection:
    mask: Path
    label_id: int
    score: float


@dataclass(frozen=True)
class CountedInstances:
    """Counts of a folder, and what is odd though it can be scored."""

    counts: OverlapCounts
    warnings: list[str]


def count_folder(truth: Path, prediction: Path, *, workers: int = 1) -> CountedInstances:
    """Count the overlaps of a folder of predictions with a folder of instanceIds PNGs.

    Args:
        truth: Folder of the ground truth; its sub-folders too.
        prediction: Folder of the text files; its sub-folders too.
        workers: Processes that count images; the counts are the same for any number.

    Raises:
        DataError: A prediction is missing or twice there, or files have a fault; the message
            names each kind of fault, how often and the first three.
    """
    for folder in (truth, prediction):
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder",
                fix=f"--gt is a folder of *_instanceIds.png and --pred one of {_FORM}; or both "
                "are COCO JSON files",
            )
    pairs = pair_frames(truth, prediction, truths="*_instanceIds.png", predictions="*.txt")
    load_for(_MASKS * len(pairs), pairs[0][0])
    count = partial(_count_part, Path(prediction).resolve(), pairs)
    reader = _Reader(Path(prediction).resolve())
    for part in count_in_parts(count, len(pairs), label="count instances", workers=workers):
        reader.add(part)
    reader.raise_faults(prediction)
    return CountedInstances(merge(reader.counts), reader.warnings())


def _count_part(folder: Path, pairs: Pairs, part: range) -> _Reader:
    reader = _Reader(folder)
    for i in part:
        reader.count(*pairs[i])
    return reader


@dataclass
class _Reader:
    """Counts images and collects what is wrong with their files."""

    folder: Path
    counts: list[OverlapCounts] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    skipped: int = 0
    empty: int = 0

    def add(self, other: _Reader) -> None:
        """Append what was found in the images that follow."""
        self.counts += other.counts
        self.skipped += other.skipped
        self.empty += other.empty
        for kind, found in other.faults.items():
            self.faults.setdefault(kind, []).extend(found)

    def warnings(self) -> list[str]:
        """Return what is odd though it can be scored."""
        labels = f"{self.skipped} predictions are of labels without instances and count nowhere"
        masks = f"{self.empty} predictions have an empty mask and count nowhere"
        return [*([labels] if self.skipped else []), *([masks] if self.empty else [])]

    def count(self, truth: Path, listing: Path) -> None:
        """Count one image, or note why it cannot be counted."""
        detections = self._lines(listing)
        try:
            numbers = read_label_map(truth)
            check_numbers(numbers, numbers.shape)
        except DataError as error:
            self._fault("truths are no instanceIds", f"{truth.name} ({error.what})")
            return
        image = ImageTruth.of(numbers)
        rows = []
        for detection in detections:
            mask = self._mask(detection.mask, numbers.shape)
            if mask is None:
                continue
            if not mask.any():
                self.empty += 1
                continue
            rows.append(image.overlaps(mask, detection.label_id, detection.score))
        self.counts.append(image.join(truth.name.removesuffix("_gtFine_instanceIds.png"), rows))

    def _lines(self, listing: Path) -> list[_Detection]:
        found = []
        seen: set[Path] = set()
        try:
            lines = listing.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self._fault("lists cannot be read", f"{listing.name} ({error})")
            return []
        for number, line in enumerate(lines, start=1):
            place = f"{listing.name}:{number}"
            detection = self._line(line, listing, place)
            if detection is None:
                continue
            if detection.mask in seen:
                self._fault("lines name the mask of an earlier one", f"{place} {line.split()[0]}")
            seen.add(detection.mask)
            if detection.label_id in THING_IDS:
                found.append(detection)
            else:
                self.skipped += 1
        return found

    def _line(self, line: str, listing: Path, place: str) -> _Detection | None:
        words = line.split(" ")
        if len(words) != 3:
            self._fault("lines are not 'mask.png labelID confidence'", f"{place} {line[:40]!r}")
            return None
        label_id, score = _number(words[1]), _number(words[2])
        if label_id is None or label_id != int(label_id) or not 0 <= label_id <= MAX_LABEL_ID:
            self._fault(f"label ids are not 0 to {MAX_LABEL_ID}", f"{place} {words[1]}")
            return None
        if score is None:
            self._fault("confidences are no finite numbers", f"{place} {words[2].strip()}")
            return None
        mask = (listing.parent / words[0]).resolve()
        if Path(words[0]).is_absolute() or not mask.is_relative_to(self.folder):
            self._fault("masks are outside the folder", f"{place} {words[0]}")
            return None
        return _Detection(mask, int(label_id), score)

    def _mask(self, path: Path, shape: tuple[int, ...]) -> BoolArray | None:
        try:
            with opened(path, shape) as image:
                mode = image.mode
                if mode not in _MASK_MODES:
                    self._fault("masks are not one-channel 8-bit PNGs", f"{path.name} ({mode})")
                    return None
                # Bits and palettes become grey first, as officially.
                pixels = None if mode == "L" else np.asarray(image.convert("L"))
            mask: BoolArray = (read_label_map(path, size=shape) if pixels is None else pixels) != 0
        except WrongSize as error:
            sizes = f"{error.found[0]}x{error.found[1]} for {shape[0]}x{shape[1]}"
            self._fault("masks have another size than their truth", f"{path.name} {sizes}")
            return None
        except (DataError, UnidentifiedImageError, OSError, SyntaxError, ValueError):
            reason = "is broken or no image" if path.is_file() else "is missing"
            self._fault("masks cannot be read", f"{path.name} ({reason})")
            return None
        return mask

    def _fault(self, kind: str, example: str) -> None:
        self.faults.setdefault(kind, []).append(example)

    def raise_faults(self, folder: Path) -> None:
        """Raise one error over all faults that were found."""
        lines = [
            f"{folder}: {len(found)} {kind}; first {', '.join(found[:_EXAMPLES])}"
            for kind, found in self.faults.items()
        ]
        if lines:
            raise DataError("\n".join(lines), fix=_FIX)


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class ImageTruth:
    """The ground truth of one image: its thing segments and its void.

    ``segment`` [H, W]: row of ``truths`` of each pixel; the first of the two further numbers is
    for pixels that count, the second for void. ``truths`` int64 [G, 3]: label id, pixels, 1 for
    a group.
    """

    segment: IntArray
    truths: IntArray

    @classmethod
    def of(cls, numbers: IntArray) -> ImageTruth:
        """Read an instanceIds map [H, W]."""
        pixels = np.bincount(numbers.reshape(-1))
        present = np.flatnonzero(pixels)
        label_id = label_of(present)
        things = np.isin(label_id, THING_IDS)
        known = present[things]
        group = (known < INSTANCES_FROM).astype(np.int64)
        table = np.full(len(pixels), len(known), dtype=np.int64)
        # Numbered instances of labels that are not evaluated are no void, as officially.
        void = [i for i in IGNORED_IDS if i < len(pixels)]
        table[void] = len(known) + 1
        table[known] = np.arange(len(known))
        return cls(table[numbers], np.stack([label_id[things], pixels[known], group], axis=1))

    def overlaps(
        self, mask: BoolArray, label_id: int, score: float
    ) -> tuple[int, int, int, float, IntArray]:
        """Return label id, pixels, void pixels and score of a detection, and its pairs [n, 2]."""
        number = len(self.truths)
        shared = np.bincount(self.segment[mask], minlength=number + 2)
        rows = np.flatnonzero((shared[:number] > 0) & (self.truths[:, 0] == label_id))
        pairs = np.stack([rows, shared[rows]], axis=1)
        return label_id, int(shared.sum()), int(shared[number + 1]), score, pairs

    def join(
        self, image_id: int | str, rows: Sequence[tuple[int, int, int, float, IntArray]]
    ) -> OverlapCounts:
        """Return the counts of the image from the overlaps of its detections."""
        detections = np.array([(0, *row[:3]) for row in rows], dtype=np.int64).reshape(-1, 4)
        pairs = [np.insert(row[4], 0, i, axis=1) for i, row in enumerate(rows)]
        return OverlapCounts(
            (image_id,),
            np.insert(self.truths, 0, 0, axis=1).astype(np.int64),
            detections,
            np.array([row[3] for row in rows], dtype=np.float64),
            np.concatenate([np.zeros((0, 3), dtype=np.int64), *pairs]).astype(np.int64),
        )
