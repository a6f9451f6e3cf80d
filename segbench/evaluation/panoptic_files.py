"""COCO panoptic files in, panoptic counts per image out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.errors import DataError
from segbench.evaluation._file_checks import EXAMPLES, Entry, expect_list, is_integer, shown
from segbench.evaluation._images import count_in_parts, load_for
from segbench.evaluation._matching import ImageId
from segbench.evaluation._runs import id_areas
from segbench.evaluation.panoptic import PanopticCounts, count, merge
from segbench.evaluation.panoptic_checks import check_files, check_segments, read_annotations
from segbench.formats import read_json, read_panoptic_ids
from segbench.types import VOID, Category, CategoryTable, IntArray

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
    """Match every image of a truth file with its prediction.

    Args:
        truth_json: COCO panoptic JSON with categories.
        prediction_json: COCO panoptic JSON; only its annotations are read. Predictions for
            images the truth lacks are ignored.
        truth_folder: Folder of the truth's PNGs.
        prediction_folder: Folder of the predicted PNGs.
        strict_compat: See ``segbench.evaluation.panoptic``; here it also lets the last of
            several annotations of one image win, as panopticapi does.
        boundary: Count boundaries too, for Boundary PQ.
        warnings: Takes what is odd in the truth though it can be scored: areas that differ
            from the PNG, ids in the PNG that no segment has.
        workers: Processes that count images; the counts are the same for any number.

    Raises:
        DataError: A prediction or file is missing, an image is annotated twice, or an image
            breaks a rule of ``segbench.evaluation.panoptic.count``.
    """
    truth = read_json(truth_json)
    annotations = read_annotations(truth, truth_json)
    categories = read_categories(truth, truth_json)
    predictions = _by_image(prediction_json, strict_compat)
    if not annotations:
        raise DataError(f"{truth_json}: there are no images to score")
    if not strict_compat:
        _refuse_repeated([a["image_id"] for a in annotations], truth_json)
    _refuse_missing(annotations, predictions, prediction_json)
    pairs = [(each, predictions[each["image_id"]]) for each in annotations]
    if not strict_compat:
        known = categories.category_ids
        check_segments(annotations, truth_json, known=known, truth=True)
        check_segments([p for _, p in pairs], prediction_json, known=known, truth=False)
    check_files(annotations, truth_folder, option="--gt-folder")
    check_files([p for _, p in pairs], prediction_folder, option="--pred-folder")
    folders, look = (truth_folder, prediction_folder), warnings is not None
    files = _Files(pairs, folders, categories, strict_compat, look, boundary)
    counted = _count_all(files, prediction_json, workers=workers)
    if warnings is not None:
        warnings.extend(_describe([part.oddities for part in counted], truth_json))
    return merge([part.counts for part in counted if part.counts])


@dataclass(frozen=True)
class _Counted:
    """The counts of some images, the faults of others, and what is odd in their truth."""

    counts: PanopticCounts | None
    faults: list[DataError]
    oddities: dict[str, list[str]]


@dataclass(frozen=True)
class _Files:
    """The images to count and how; ``look`` at what is odd in the truth."""

    pairs: Sequence[tuple[Annotation, Annotation]]
    folders: tuple[Path, Path]
    categories: CategoryTable
    strict_compat: bool
    look: bool
    boundary: bool

    def count(self, images: range) -> _Counted:
        parts: list[PanopticCounts] = []
        faults: list[DataError] = []
        oddities: dict[str, list[str]] = {_AREAS: [], _ORPHANS: []}
        for position in images:
            try:
                parts.append(self._count_image(position, oddities))
            except DataError as error:
                faults.append(error)
        return _Counted(merge(parts) if parts else None, faults, oddities)

    def _count_image(self, position: int, oddities: dict[str, list[str]]) -> PanopticCounts:
        truth, prediction = self.pairs[position]
        prediction_png = self.folders[1] / prediction["file_name"]
        try:
            ids = read_panoptic_ids(self.folders[0] / truth["file_name"])
            counts = count(
                ids,
                read_panoptic_ids(prediction_png),
                truth_segments=truth["segments_info"],
                predicted_segments=prediction["segments_info"],
                categories=self.categories,
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
        return counts


def _count_all(files: _Files, source: Path, *, workers: int) -> list[_Counted]:
    """Return the counts of every image; raise one error over all images with a fault."""
    number = len(files.pairs)
    load_for(2 * number, files.folders[0] / files.pairs[0][0]["file_name"])
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


def _describe(found: Sequence[Mapping[str, list[str]]], source: Path) -> list[str]:
    """Return a warning for each kind of oddity that occurs."""
    joined = {kind: [text for each in found for text in each[kind]] for kind in (_AREAS, _ORPHANS)}
    return [
        f"{source}: {len(examples)} {problem}; first {', '.join(examples[:EXAMPLES])}"
        for problem, examples in joined.items()
        if examples
    ]


def read_categories(truth: Mapping[str, Any], source: Path) -> CategoryTable:
    """Return the categories of a COCO JSON in file order."""
    expect_list(truth.get("categories"), source, "categories")
    wrong = [c["id"] for c in truth["categories"] if "id" in c and not is_integer(c["id"])]
    if wrong:
        first = ", ".join(shown(i) for i in wrong[:EXAMPLES])
        raise DataError(f"{source}: {len(wrong)} categories have an id that is no integer: {first}")
    odd = [c["isthing"] for c in truth["categories"] if c.get("isthing", 0) not in (0, 1)]
    if odd:
        first = ", ".join(shown(value) for value in odd[:EXAMPLES])
        raise DataError(
            f"{source}: {len(odd)} categories have an isthing that is not 0 or 1: {first}"
        )
    try:
        table = CategoryTable(tuple(_category(entry) for entry in truth["categories"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{source}: 'categories' must be a list of objects with id, name and isthing "
            f"({type(error).__name__}: {error})"
        ) from error
    _refuse_repeated(list(table.category_ids), source, what="category")
    return table


def _category(entry: Mapping[str, Any]) -> Category:
    color = tuple(entry.get("color", (0, 0, 0)))
    return Category(entry["id"], entry["name"], entry["isthing"] == 1, (*color[:3],))  # type: ignore[arg-type]


def _by_image(source: Path, strict_compat: bool) -> dict[ImageId, Entry]:
    annotations = read_annotations(read_json(source), source)
    if not strict_compat:
        _refuse_repeated([a["image_id"] for a in annotations], source)
    return {annotation["image_id"]: annotation for annotation in annotations}


def _refuse_repeated(ids: list[Any], source: Path, *, what: str = "image") -> None:
    seen: set[Any] = set()
    repeated = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    if repeated:
        raise DataError(
            f"{source}: {len(repeated)} entries repeat the {what} of an earlier one, "
            f"first ids {repeated[:3]}"
        )


def _refuse_missing(
    annotations: Sequence[Annotation],
    predictions: Mapping[ImageId, Annotation],
    source: Path,
) -> None:
    missing = [a["image_id"] for a in annotations if a["image_id"] not in predictions]
    if missing:
        there = f"; it has {len(predictions)} others, first {list(predictions)[:EXAMPLES]}"
        raise DataError(
            f"{source}: no prediction for {len(missing)} of {len(annotations)} images, "
            f"first ids {missing[:EXAMPLES]}{there if len(missing) == len(annotations) else ''}",
            fix="predict every image of the split; a part of it is never scored",
        )
