"""COCO panoptic files in, panoptic counts per image out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.errors import DataError
from segbench.evaluation._file_checks import EXAMPLES, Entry, expect_list, is_integer, shown
from segbench.evaluation._matching import ImageId
from segbench.evaluation._runs import value_counts
from segbench.evaluation.panoptic import PanopticCounts, count, merge
from segbench.evaluation.panoptic_checks import check_files, check_segments, read_annotations
from segbench.formats import read_json, read_panoptic_ids
from segbench.progress import track
from segbench.types import VOID, Category, CategoryTable

Annotation = Mapping[str, Any]


def evaluate_panoptic(
    truth_json: Path,
    prediction_json: Path,
    *,
    truth_folder: Path,
    prediction_folder: Path,
    strict_compat: bool = False,
    warnings: list[str] | None = None,
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
        warnings: Takes what is odd in the truth though it can be scored: areas that differ
            from the PNG, ids in the PNG that no segment has.

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
    parts = _count_all(
        pairs,
        prediction_json,
        folders=(truth_folder, prediction_folder),
        categories=categories,
        strict_compat=strict_compat,
    )
    if warnings is not None:
        warnings.extend(truth_oddities(annotations, truth_folder, source=truth_json))
    return merge(parts)


def _count_all(
    pairs: Sequence[tuple[Annotation, Annotation]], source: Path, **options: Any
) -> list[PanopticCounts]:
    """Return the counts of every image; raise one error over all images with a fault."""
    parts: list[PanopticCounts] = []
    faults: list[DataError] = []
    steps = track(enumerate(pairs), len(pairs), "evaluate panoptic")
    for position, (truth, prediction) in steps:
        try:
            parts.append(_count_files(truth, prediction, position=position, **options))
        except DataError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        first = "".join(f"\n  {error.what}" for error in faults[:EXAMPLES])
        problem = f"{len(faults)} of {len(pairs)} images have faults; first{first}"
        raise DataError(f"{source}: {problem}", fix=faults[0].fix)
    return parts


def truth_oddities(annotations: Sequence[Annotation], folder: Path, *, source: Path) -> list[str]:
    """Return a warning for areas that differ from the PNG and one for ids without a segment."""
    areas: list[str] = []
    orphans: list[str] = []
    for annotation in annotations:
        values, pixels = value_counts(read_panoptic_ids(folder / annotation["file_name"]))
        counted = dict(zip(values.tolist(), pixels.tolist(), strict=True))
        segments = {s["id"]: s for s in annotation["segments_info"]}
        name = annotation["file_name"]
        areas += [
            f"{name} segment {i}: {s['area']}, PNG {counted.get(i, 0)}"
            for i, s in segments.items()
            if "area" in s and s["area"] != counted.get(i, 0)
        ]
        orphans += [f"{name} {i}" for i in counted if i != VOID and i not in segments]
    found = {
        "true segments have another area than their PNG (the PNG's is used)": areas,
        "ids of the true PNGs have no segment (they match nothing and excuse nothing)": orphans,
    }
    return [
        f"{source}: {len(examples)} {problem}; first {', '.join(examples[:3])}"
        for problem, examples in found.items()
        if examples
    ]


def read_categories(truth: Mapping[str, Any], source: Path) -> CategoryTable:
    """Return the categories of a COCO JSON in file order."""
    expect_list(truth.get("categories"), source, "categories")
    wrong = [c["id"] for c in truth["categories"] if "id" in c and not is_integer(c["id"])]
    if wrong:
        first = ", ".join(shown(i) for i in wrong[:EXAMPLES])
        raise DataError(f"{source}: {len(wrong)} categories have an id that is no integer: {first}")
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


def _count_files(
    truth: Annotation,
    prediction: Annotation,
    *,
    folders: tuple[Path, Path],
    categories: CategoryTable,
    position: int,
    strict_compat: bool,
) -> PanopticCounts:
    prediction_png = folders[1] / prediction["file_name"]
    try:
        return count(
            read_panoptic_ids(folders[0] / truth["file_name"]),
            read_panoptic_ids(prediction_png),
            truth_segments=truth["segments_info"],
            predicted_segments=prediction["segments_info"],
            categories=categories,
            image_id=truth["image_id"],
            position=position,
            strict_compat=strict_compat,
        )
    except DataError as error:
        if str(prediction_png) in error.what:
            raise
        raise DataError(f"{prediction_png}: {error.what}", fix=error.fix) from error
