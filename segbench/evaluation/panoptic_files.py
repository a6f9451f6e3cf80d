"""COCO panoptic files in, panoptic counts per image out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.errors import DataError
from segbench.evaluation._matching import ImageId
from segbench.evaluation._runs import value_counts
from segbench.evaluation.panoptic import PanopticCounts, count, merge
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
    categories = read_categories(truth, truth_json)
    predictions = _by_image(prediction_json, strict_compat)
    annotations = _annotations(truth, truth_json)
    if not annotations:
        raise DataError(f"{truth_json}: there are no images to score")
    if not strict_compat:
        _refuse_repeated([a["image_id"] for a in annotations], truth_json)
    _refuse_missing(annotations, predictions, prediction_json)
    parts = [
        _count_files(
            annotation,
            predictions[annotation["image_id"]],
            folders=(truth_folder, prediction_folder),
            categories=categories,
            position=position,
            strict_compat=strict_compat,
        )
        for position, annotation in _tracked(annotations)
    ]
    if warnings is not None:
        warnings.extend(truth_oddities(annotations, truth_folder, source=truth_json))
    return merge(parts)


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


def _tracked(annotations: list[Annotation]) -> Iterator[tuple[int, Annotation]]:
    return iter(track(enumerate(annotations), len(annotations), "evaluate panoptic"))


def _annotations(content: Any, source: Path) -> list[Annotation]:
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        raise DataError(f"{source}: expected an object with a list 'annotations'")
    required = ("image_id", "file_name", "segments_info")
    broken = [a for a in annotations if any(key not in a for key in required)]
    if broken:
        raise DataError(
            f"{source}: {len(broken)} annotations lack one of {', '.join(required)}; "
            f"the first has {', '.join(broken[0]) or 'nothing'}"
        )
    return annotations


def _by_image(source: Path, strict_compat: bool) -> dict[ImageId, Annotation]:
    annotations = _annotations(read_json(source), source)
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
    annotations: list[Annotation], predictions: Mapping[ImageId, Annotation], source: Path
) -> None:
    missing = [a["image_id"] for a in annotations if a["image_id"] not in predictions]
    if missing:
        raise DataError(
            f"{source}: no prediction for {len(missing)} of {len(annotations)} images, "
            f"first ids {missing[:3]}",
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
