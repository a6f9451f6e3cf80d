"""COCO panoptic files in, panoptic counts per image out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import VOID, CategoryTable, ImageId, IntArray
from segbench.evaluation.counting.images import count_in_parts, load_for
from segbench.evaluation.counting.runs import id_areas
from segbench.evaluation.file_checks import EXAMPLES, Entry
from segbench.evaluation.panoptic.checks import (
    check_files,
    check_segments,
    read_annotations,
    read_categories,
    refuse_missing,
    refuse_repeated,
)
from segbench.evaluation.panoptic.listing import UnusualError, read_listing
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts, count, merge
from segbench.formats.label_maps import read_panoptic_ids

Annotation = Mapping[str, Any]


def evaluate_panoptic(
    truth_json: Path,
    prediction_json: Path,
    *,
    truth_folder: Path,
    prediction_folder: Path,
    strict_compat: bool = False,
    boundary: bool = False,
    warnings: list[str] | None = None,
    workers: int = 1,
) -> PanopticCounts:
    """Match every image of a ground truth file with its prediction.

    Args:
        truth_json: COCO panoptic JSON with categories.
        prediction_json: COCO panoptic JSON; only its annotations are read. Predictions for
            images the ground truth lacks are ignored.
        truth_folder: Folder of the ground truth's PNGs.
        prediction_folder: Folder of the predicted PNGs.
        strict_compat: See ``panoptic_quality``; here it also lets the last of several annotations
            of one image win, as panopticapi does.
        boundary: Count boundaries too, for Boundary PQ.
        warnings: Takes what is odd though it can be scored: areas of the truth that differ from
            the PNG, ids in the PNG that no segment has, stuff in more than one segment.
        workers: Processes that count images; the counts are the same for any number.

    Raises:
        DataError: A prediction or file is missing, an image is annotated twice, or an image
            breaks a rule of ``segbench.evaluation.panoptic.panoptic_quality.count``.
    """
    sources = _Sources((truth_json, prediction_json), (truth_folder, prediction_folder))
    options = (strict_compat, warnings is not None, boundary)
    counted = None
    if not strict_compat:
        with suppress(UnusualError):
            files = _Files(_list(sources), sources.folders, *options)
            counted = _count_all(files, prediction_json, workers=workers)
    if counted is None:
        files = _Files(_read_all(sources, strict_compat), sources.folders, *options)
        counted = _count_all(files, prediction_json, workers=workers)
    if warnings is not None:
        found = [part.oddities for part in counted]
        warnings.extend(_describe(found, _OF_TRUTH, truth_json))
        warnings.extend(_describe(found, _OF_PREDICTION, prediction_json))
    return merge([part.counts for part in counted if part.counts])


@dataclass(frozen=True)
class _Sources:
    """JSON files and folders of PNGs, those of the ground truth first."""

    files: tuple[Path, Path]
    folders: tuple[Path, Path]


@dataclass(frozen=True)
class _Images:
    """How many images there are, their categories, and ground truth and prediction of each."""

    number: int
    categories: CategoryTable
    pair: Callable[[int], tuple[Annotation, Annotation]]


@dataclass(frozen=True)
class _Counted:
    """The counts of some images, the faults of others, and what is odd in them."""

    counts: PanopticCounts | None
    faults: list[DataError]
    oddities: dict[str, list[str]]


@dataclass(frozen=True)
class _Files:
    """The images to count and how; ``look`` at what is odd in them."""

    images: _Images
    folders: tuple[Path, Path]
    strict_compat: bool
    look: bool
    boundary: bool

    def count(self, images: range) -> _Counted:
        parts: list[PanopticCounts] = []
        faults: list[DataError] = []
        oddities: dict[str, list[str]] = {kind: [] for kind in (*_OF_TRUTH, *_OF_PREDICTION)}
        for position in images:
            try:
                parts.append(self._count_image(position, oddities))
            except DataError as error:
                faults.append(error)
        return _Counted(merge(parts) if parts else None, faults, oddities)

    def _count_image(self, position: int, oddities: dict[str, list[str]]) -> PanopticCounts:
        truth, prediction = self.images.pair(position)
        prediction_png = self.folders[1] / prediction["file_name"]
        try:
            ids = read_panoptic_ids(self.folders[0] / truth["file_name"])
            counts = count(
                ids,
                read_panoptic_ids(prediction_png, size=ids.shape),
                truth_segments=truth["segments_info"],
                predicted_segments=prediction["segments_info"],
                categories=self.images.categories,
                image_id=truth["image_id"],
                position=position,
                strict_compat=self.strict_compat,
                boundary=self.boundary,
            )
        except DataError as error:
            if str(prediction_png) in error.what:
                raise
            raise DataError(f"{prediction_png}: {error.what}", fix=error.fix) from error
        if self.look:
            _note_oddities(truth, ids, oddities)
            _note_pieces(truth, prediction, self.images.categories, oddities)
        return counts


def _list(sources: _Sources) -> _Images:
    """Return images whose segments are read when they are counted."""
    listing = read_listing(sources.files, sources.folders)
    return _Images(len(listing.truths), listing.categories, listing.pair)


def _read_all(sources: _Sources, strict_compat: bool) -> _Images:
    """Return images whose every entry has been looked at."""
    truth_json, prediction_json = sources.files
    truth = read_json(truth_json)
    annotations = read_annotations(truth, truth_json)
    categories = read_categories(truth, truth_json)
    predictions = _by_image(prediction_json, strict_compat)
    if not annotations:
        raise DataError(f"{truth_json}: there are no images to score")
    if not strict_compat:
        refuse_repeated([a["image_id"] for a in annotations], truth_json)
    refuse_missing(annotations, predictions, prediction_json)
    pairs = [(each, predictions[each["image_id"]]) for each in annotations]
    if not strict_compat:
        known = categories.category_ids
        check_segments(annotations, truth_json, known=known, truth=True)
        check_segments([p for _, p in pairs], prediction_json, known=known, truth=False)
    check_files(annotations, sources.folders[0], option="--gt-folder")
    check_files([p for _, p in pairs], sources.folders[1], option="--pred-folder")
    return _Images(len(pairs), categories, pairs.__getitem__)


def _by_image(source: Path, strict_compat: bool) -> dict[ImageId, Entry]:
    annotations = read_annotations(read_json(source), source)
    if not strict_compat:
        refuse_repeated([a["image_id"] for a in annotations], source)
    return {annotation["image_id"]: annotation for annotation in annotations}


def _count_all(files: _Files, source: Path, *, workers: int) -> list[_Counted]:
    """Return the counts of every image; raise one error over all images with a fault."""
    number = files.images.number
    load_for(2 * number, files.folders[0] / files.images.pair(0)[0]["file_name"])
    label = "evaluate panoptic"
    parts = list(count_in_parts(files.count, number, label=label, workers=workers))
    faults = [error for part in parts for error in part.faults]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        first = "".join(f"\n  {error.what}" for error in faults[:EXAMPLES])
        problem = f"{len(faults)} of {number} images have faults; first{first}"
        raise DataError(f"{source}: {problem}", fix=faults[0].fix)
    return parts


_AREAS = "true segments have another area than their PNG (the PNG's is used)"
_ORPHANS = "ids of the true PNGs have no segment (they match nothing and excuse nothing)"
_TRUE_PIECES = (
    "images have a stuff category in more than one true segment (one predicted segment matches "
    "at most one of them: join them)"
)
_PIECES = (
    "images have a stuff category in several predicted segments, of which at most one can match "
    "a true one: join them"
)
_OF_TRUTH, _OF_PREDICTION = (_AREAS, _ORPHANS, _TRUE_PIECES), (_PIECES,)


def _note_oddities(truth: Annotation, ids: IntArray, oddities: dict[str, list[str]]) -> None:
    """Note areas that differ from the PNG and ids of the PNG without a segment."""
    counted = id_areas(ids)
    segments = {s["id"]: s for s in truth["segments_info"]}
    name = truth["file_name"]
    oddities[_AREAS] += [
        f"{name} segment {i}: {s['area']}, PNG {counted.get(i, 0)}"
        for i, s in segments.items()
        if "area" in s and s["area"] != counted.get(i, 0)
    ]
    oddities[_ORPHANS] += [f"{name} {i}" for i in counted if i != VOID and i not in segments]


def _note_pieces(
    truth: Annotation,
    prediction: Annotation,
    categories: CategoryTable,
    oddities: dict[str, list[str]],
) -> None:
    """Note an image where stuff is in pieces, of the ground truth or of the prediction."""
    names = {c.id: c.name for c in categories.categories if not c.isthing}
    true, found = (
        Counter(s["category_id"] for s in each["segments_info"] if not s.get("iscrowd", 0))
        for each in (truth, prediction)
    )
    pieces = {
        _TRUE_PIECES: {i: n for i, n in true.items() if n > 1},
        _PIECES: {i: n for i, n in found.items() if n > max(1, true[i])},
    }
    for kind, numbers in pieces.items():
        told = [f"{names[i]} {n}" for i, n in numbers.items() if i in names]
        oddities[kind] += [f"image {truth['image_id']} ({', '.join(told)})"] if told else []


def _describe(
    found: Sequence[Mapping[str, list[str]]], kinds: Sequence[str], source: Path
) -> list[str]:
    """Return a warning for each kind of oddity that occurs."""
    joined = {kind: [text for each in found for text in each[kind]] for kind in kinds}
    return [
        f"{source}: {len(examples)} {problem}; first {', '.join(examples[:EXAMPLES])}"
        for problem, examples in joined.items()
        if examples
    ]
