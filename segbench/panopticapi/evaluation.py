"""Panoptic quality under panopticapi's names.

python -m segbench.panopticapi.evaluation --gt_json_file gt.json --pred_json_file pred.json
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import Category, CategoryTable
from segbench.evaluation.counting.images import load_for
from segbench.evaluation.counting.runs import value_counts
from segbench.evaluation.file_checks import check, expect_list, lacks
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic.checks import read_annotations
from segbench.formats.label_maps import read_panoptic_ids
from segbench.panopticapi._pq_stat import PQStat, PQStatCat, averages, print_table
from segbench.panopticapi._support import (
    Categories,
    PanopticKeyError,
    PathLike,
    by_id,
    in_parallel,
    required,
    run_command,
    say,
    split,
)
from segbench.panopticapi.utils import get_traceback

__all__ = [
    "OFFSET",
    "VOID",
    "PQStat",
    "PQStatCat",
    "pq_compute",
    "pq_compute_multi_core",
    "pq_compute_single_core",
]

OFFSET = 256**3
VOID = 0
Annotation = dict[str, Any]
Matched = Sequence[tuple[Annotation, Annotation]]
"""Pairs of a true and a predicted annotation of one image."""


@get_traceback
def pq_compute_single_core(
    proc_id: int,
    annotation_set: Matched,
    gt_folder: PathLike,
    pred_folder: PathLike,
    categories: Categories,
    *,
    strict_compat: bool = False,
) -> PQStat:
    """Return the statistics of some images.

    Args:
        proc_id: Number of the process; not used.
        annotation_set: True and predicted annotation of each image.
        gt_folder: Folder of the true PNGs.
        pred_folder: Folder of the predicted PNGs.
        categories: Category id -> ``isthing``.
        strict_compat: See the package.

    Raises:
        KeyError: Ids in PNG and JSON differ, a category is unknown, a field is missing.
        DataError: A PNG is missing or has another size.
    """
    parts = _count(
        proc_id, list(enumerate(annotation_set)), gt_folder, pred_folder, categories, strict_compat
    )
    return _stat_of(parts)


def _count(
    proc_id: int,
    numbered: Sequence[tuple[int, tuple[Annotation, Annotation]]],
    gt_folder: PathLike,
    pred_folder: PathLike,
    categories: Categories,
    strict_compat: bool,
) -> list[panoptic.PanopticCounts]:
    """Return the counts of each numbered image."""
    table = CategoryTable(tuple(_category(info) for info in categories.values()))
    for _, (truth, _) in numbered[:1]:
        load_for(2 * len(numbered), Path(gt_folder) / truth["file_name"])
    return [
        _count_image(
            truth,
            prediction,
            folders=(Path(gt_folder), Path(pred_folder)),
            table=table,
            position=position,
            strict_compat=strict_compat,
        )
        for position, (truth, prediction) in numbered
    ]


def _category(info: Mapping[str, Any]) -> Category:
    return Category(info["id"], info.get("name", ""), info["isthing"] == 1, (0, 0, 0))


def _count_image(
    truth: Annotation,
    prediction: Annotation,
    *,
    folders: tuple[Path, Path],
    table: CategoryTable,
    position: int,
    strict_compat: bool,
) -> panoptic.PanopticCounts:
    truth_ids = read_panoptic_ids(folders[0] / truth["file_name"])
    predicted_png = folders[1] / prediction["file_name"]
    predicted_ids = read_panoptic_ids(predicted_png, size=truth_ids.shape)
    try:
        return panoptic.count(
            truth_ids,
            predicted_ids,
            truth_segments=truth["segments_info"],
            predicted_segments=prediction["segments_info"],
            categories=table,
            image_id=truth["image_id"],
            position=position,
            strict_compat=strict_compat,
        )
    except DataError:
        present = value_counts(predicted_ids)[0].tolist()
        _raise_key_errors(truth, prediction, present, table)
        raise


def _raise_key_errors(
    truth: Annotation, prediction: Annotation, present: Sequence[int], table: CategoryTable
) -> None:
    """Raise what panopticapi calls a ``KeyError``, in its order; ``present`` is ascending."""
    image = f"image {truth['image_id']}"
    listed = {segment["id"]: segment for segment in prediction["segments_info"]}
    for segment_id in present:
        if segment_id not in listed:
            if segment_id == VOID:
                continue
            raise PanopticKeyError(
                f"{image}: segment {segment_id} is in the predicted PNG but not in the JSON"
            )
        category_id = listed[segment_id]["category_id"]
        if category_id not in table.category_ids:
            raise PanopticKeyError(
                f"{image}: segment {segment_id} has the unknown category_id {category_id}"
            )
    absent = sorted(set(listed) - set(present))
    if absent:
        raise PanopticKeyError(
            f"{image}: the segments {absent} are in the predicted JSON but not in the PNG"
        )
    if any("iscrowd" not in segment for segment in truth["segments_info"]):
        raise PanopticKeyError(f"iscrowd: a true segment of {image} lacks this field")


def _stat_of(parts: Sequence[panoptic.PanopticCounts]) -> PQStat:
    """Return the statistics of counted images, summed one match after the other."""
    stat = PQStat()
    for part in parts:
        for _, index, _, _, intersection, union in part.matches.tolist():
            category = stat[part.category_ids[index]]
            category.tp += 1
            category.iou += intersection / union if union else np.inf
        for _, index, fp, fn in part.errors.tolist():
            category = stat[part.category_ids[index]]
            category.fp += fp
            category.fn += fn
    return stat


def pq_compute_multi_core(
    matched_annotations_list: Matched,
    gt_folder: PathLike,
    pred_folder: PathLike,
    categories: Categories,
    *,
    strict_compat: bool = False,
) -> PQStat:
    """Return the statistics of all images, counted by several processes.

    Sums run over the images in their order whatever the number of processes; under
    ``strict_compat`` in as many parts as there are processors, which are then added.
    """
    numbered = list(enumerate(matched_annotations_list))
    found = in_parallel(_count, numbered, gt_folder, pred_folder, categories, strict_compat)
    parts = [counts for group in found for counts in group]
    if not strict_compat:
        return _stat_of(parts)
    stat = PQStat()
    for group in split(parts, os.cpu_count() or 1):
        stat += _stat_of(group)
    return stat


def pq_compute(
    gt_json_file: PathLike,
    pred_json_file: PathLike,
    gt_folder: PathLike | None = None,
    pred_folder: PathLike | None = None,
    *,
    strict_compat: bool = False,
) -> dict[str, Any]:
    """Score a COCO panoptic prediction and print the table.

    Args:
        gt_json_file: COCO panoptic JSON of the ground truth.
        pred_json_file: COCO panoptic JSON of the prediction; only annotations are read.
        gt_folder: Folder of the true PNGs; X where the JSON is X.json.
        pred_folder: Folder of the predicted PNGs, likewise.
        strict_compat: See the package.

    Returns:
        ``All``, ``Things``, ``Stuff``: ``pq``, ``sq``, ``rq`` as fractions and ``n``
        categories; ``per_class``: ``pq``, ``sq``, ``rq`` by category id.

    Raises:
        DataError: A file is no COCO panoptic JSON; a folder or the prediction of an image is
            missing.
        KeyError: See ``pq_compute_single_core``.
    """
    start = time.monotonic()
    truth, prediction = read_json(Path(gt_json_file)), read_json(Path(pred_json_file))
    if not strict_compat:
        _check_form(truth, prediction, Path(gt_json_file), Path(pred_json_file))
    folders = (
        _folder(gt_json_file, gt_folder, strict_compat),
        _folder(pred_json_file, pred_folder, strict_compat),
    )
    categories = by_id(truth["categories"])
    say("Panoptic quality")
    say(f"\tground truth: {gt_json_file}, PNGs in {folders[0]}")
    say(f"\tprediction:   {pred_json_file}, PNGs in {folders[1]}")
    for folder, side in zip(folders, ("ground truth", "predicted"), strict=True):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder} with {side} segmentations")
    matched = match_annotations(truth, prediction, strict_compat=strict_compat)
    stat = pq_compute_multi_core(matched, *folders, categories, strict_compat=strict_compat)
    results = averages(stat, categories, strict_compat=strict_compat)
    print_table(results)
    say(f"Time elapsed: {time.monotonic() - start:0.2f} seconds")
    return results


def _check_form(truth: Any, prediction: Any, truth_json: Path, prediction_json: Path) -> None:
    """Refuse JSON that is no COCO panoptic form at all; ids are checked image by image."""
    read_annotations(truth, truth_json)
    read_annotations(prediction, prediction_json)
    expect_list(truth.get("categories"), truth_json, "categories")
    rules = {"lack a field": lacks("id", "isthing")}
    check(truth["categories"], truth_json, "categories", rules)


def _folder(json_file: PathLike, folder: PathLike | None, strict_compat: bool) -> Path:
    if folder is not None:
        return Path(folder)
    name = str(json_file)
    return Path(name.replace(".json", "") if strict_compat else name.removesuffix(".json"))


def match_annotations(
    truth: Mapping[str, Any], prediction: Mapping[str, Any], *, strict_compat: bool = False
) -> list[tuple[Annotation, Annotation]]:
    """Pair the annotations of a ground truth with those of a prediction by image id."""
    predicted = {entry["image_id"]: entry for entry in prediction["annotations"]}
    if len(predicted) < len(prediction["annotations"]) and not strict_compat:
        ids = [entry["image_id"] for entry in prediction["annotations"]]
        twice = [image_id for image_id in predicted if ids.count(image_id) > 1]
        raise DataError(f"{len(twice)} images are predicted twice, first ids {twice[:3]}")
    for entry in truth["annotations"]:
        if entry["image_id"] not in predicted:
            raise DataError(
                f"no prediction for the image with id: {entry['image_id']}",
                fix="predict every image; a part is never scored",
            )
    return [(entry, predicted[entry["image_id"]]) for entry in truth["annotations"]]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Panoptic quality of a COCO panoptic prediction.")
    required(parser, gt_json_file="COCO panoptic JSON of the truth")
    required(parser, pred_json_file="COCO panoptic JSON of the prediction")
    parser.add_argument("--gt_folder", help="folder of true PNGs; X if the JSON is X.json")
    parser.add_argument("--pred_folder", help="folder of predicted PNGs; X if the JSON is X.json")
    run_command(parser, pq_compute)


if __name__ == "__main__":
    main()
