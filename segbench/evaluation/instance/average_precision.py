"""Instance segmentation: COCO's 12 numbers, from matches that are stored and read again.

pycocotools is the arbiter: matches, the arrays accumulated from them and the 12 numbers equal a
direct run of it to the last bit, for every subset too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import Params

from segbench.core.errors import ConfigError
from segbench.core.types import FloatArray, ImageId
from segbench.evaluation.instance.accumulate import Accumulated, accumulate
from segbench.evaluation.instance.boundary import match_boundaries
from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.instance.files import load_instances
from segbench.evaluation.instance.items import CellIndex, InstanceTable, IouType, table_of
from segbench.evaluation.instance.matching import Items, Matches, match_items
from segbench.evaluation.instance.oddities import instance_oddities
from segbench.evaluation.instance.table_oddities import table_oddities
from segbench.evaluation.protocol import Protocol

_KEYS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)
"""COCOeval's twelve numbers in its order."""
IOU_KEYS = tuple(f"ap{percent}" for percent in range(50, 100, 5))
"""AP at each of the ten IoU thresholds."""
PREFIX: Mapping[IouType, str] = {"segm": "", "bbox": "box_", "boundary": "boundary_"}
PARTS: Mapping[str, str] = {"segm": "segm", "bbox": "bbox", "boundary": "segm_boundary"}
"""Names of the counts in ``counts.npz``."""
_ALL_AREAS, _IOU_50, _IOU_75 = 0, 0, 5


def match(
    truth_json: Path,
    results_json: Path,
    *,
    iou_type: IouType,
    warnings: list[str] | None = None,
) -> InstanceCounts:
    """Match detections with the ground truth as pycocotools does; see ``match_files``."""
    found = match_files(truth_json, results_json, iou_types=(iou_type,), warnings=warnings)
    return found[iou_type]


def match_files(
    truth_json: Path,
    results_json: Path,
    *,
    iou_types: Sequence[IouType] = ("segm", "bbox"),
    warnings: list[str] | None = None,
) -> dict[str, InstanceCounts]:
    """Match masks and boxes of two files, which are read and checked once.

    Args:
        truth_json: COCO instances JSON.
        results_json: COCO results JSON with RLE masks and, for boxes, ``bbox``; boxes are
            taken from the masks where no detection has one.
        iou_types: ``segm`` for masks, ``bbox`` for boxes, ``boundary`` for Boundary AP, which
            needs ``segm`` beside it.
        warnings: Takes what is odd in the files though it can be scored; most of it only where
            masks are scored.

    Raises:
        DataError: A file has one of the faults ``segbench.evaluation.instance.files`` looks for.
    """
    from segbench.evaluation.instance.reading import read_table

    odd_too = warnings is not None and "segm" in iou_types
    table = read_table(truth_json, results_json, iou_types, refuse_oddities=odd_too)
    if table is None:
        found = [] if warnings is None else warnings
        table = _explain(truth_json, results_json, iou_types, found)
    if warnings is not None:
        warnings.extend(table_oddities(table, truth_json=truth_json, results_json=results_json))
    return {iou_type: match_table(table, iou_type) for iou_type in iou_types}


def _explain(
    truth_json: Path, results_json: Path, iou_types: Sequence[IouType], warnings: list[str]
) -> InstanceTable:
    """Read files in which something is wrong or unusual, entry by entry."""
    for iou_type in (each for each in iou_types if each != "boundary"):
        files = load_instances(truth_json, results_json, iou_type=iou_type)
        if iou_type == "segm":
            places = {"truth_json": truth_json, "results_json": results_json}
            warnings.extend(instance_oddities(files.truth, files.detections, **places))
    return table_of(files.truth, files.detections, iou_types)


def match_parts(
    truth_json: Path,
    results_json: Path,
    *,
    boundary: bool = False,
    warnings: list[str] | None = None,
) -> dict[str, Any]:
    """Return the counts of two files by part, as ``counts.npz`` names them; see ``match_files``.

    Args:
        truth_json: COCO instances JSON.
        results_json: COCO results JSON.
        boundary: Match by boundaries too.
        warnings: As in ``match_files``.
    """
    types: tuple[IouType, ...] = ("segm", "bbox", "boundary") if boundary else ("segm", "bbox")
    found = match_files(truth_json, results_json, iou_types=types, warnings=warnings)
    return {PARTS[iou_type]: counts for iou_type, counts in found.items()}


def match_entries(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], *, iou_type: IouType
) -> InstanceCounts:
    """Match what ``load_instances`` has checked; see ``match``."""
    return match_table(table_of(truth, detections, (iou_type,)), iou_type)


def match_table(table: InstanceTable, iou_type: IouType) -> InstanceCounts:
    """Match the masks, the boxes or the boundaries of files that were read and checked."""
    params = Params(iouType="segm")
    found = table.detections.items(iou_type, params.maxDets[-1])
    known = table.truths.items(iou_type)
    matching = match_boundaries if iou_type == "boundary" else match_items
    return counts_of(table.place, known, found, matching(known, found, params), iou_type)


def counts_of(
    place: CellIndex, known: Items, found: Items, matches: Matches, iou_type: IouType
) -> InstanceCounts:
    """Return matches of truths and detections in cell order as counts."""
    used = np.union1d(known.cell, found.cell).astype(np.int64)
    numbers = [
        np.searchsorted(i.cell, used, "right") - np.searchsorted(i.cell, used)
        for i in (found, known)
    ]
    cells = np.stack([*divmod(used, max(len(place.image_ids), 1)), *numbers], axis=1)
    return InstanceCounts(
        iou_type,
        tuple(place.category_ids),
        tuple(place.image_ids),
        cells.astype(np.int64),
        found.score,
        matches.matched,
        matches.ignored,
        matches.truth_ignored,
    )


def scores(counts: InstanceCounts, protocol: Protocol) -> dict[str, Any]:
    """Turn matches into COCO's numbers.

    Returns:
        The 12 numbers ``ap`` ... ``ar_large`` (fractions, None without truth) and AP at the
        other IoU thresholds, ``ap55`` ... ``ap95``, with ``box_`` in front for boxes; and
        ``per_class``: a dict of the same keys for each category.

    Raises:
        ConfigError: The protocol is for another task.
    """
    if protocol.task != "instance":
        raise ConfigError(f"protocol '{protocol.id}' scores {protocol.task}, not instance")
    parts = _parts(accumulate(counts, every_limit=False))
    prefix = PREFIX[counts.iou_type]
    columns = {prefix + key: _class_means(values) for key, values in parts.items()}
    rows = zip(*columns.values(), strict=True)
    return {
        **{prefix + key: _mean_known(values) for key, values in parts.items()},
        "per_class": [dict(zip(columns, row, strict=True)) for row in rows],
    }


def _parts(found: Accumulated) -> dict[str, FloatArray]:
    """Return what each number is the mean of, [..., K]: the 12, then AP at the other IoUs."""
    precision, recall = found.precision[..., -1], found.recall
    all_areas = precision[..., _ALL_AREAS]
    parts = [all_areas, all_areas[_IOU_50], all_areas[_IOU_75]]
    areas, limits = range(_ALL_AREAS + 1, recall.shape[2]), range(recall.shape[3])
    parts += [precision[..., area] for area in areas]
    parts += [recall[:, :, _ALL_AREAS, limit] for limit in limits]
    parts += [recall[:, :, area, -1] for area in areas]
    others = dict(zip(IOU_KEYS, all_areas, strict=True))
    keyed = dict(zip(_KEYS, parts, strict=True))
    return {**keyed, **{key: values for key, values in others.items() if key not in keyed}}


def _mean_known(values: FloatArray) -> float | None:
    """Return the mean without -1, COCO's "no ground truth here"."""
    known = values[values > -1]
    return float(np.mean(known)) if known.size else None


def _class_means(values: FloatArray) -> list[float | None]:
    """Return the mean of each class [..., K]; a class is -1 everywhere or nowhere."""
    rows = values.reshape(-1, values.shape[-1])
    means = rows.mean(axis=0)
    known = (rows[0] > -1).tolist()
    return [mean if there else None for mean, there in zip(means.tolist(), known, strict=True)]


def _cell_slices(counts: InstanceCounts) -> Iterator[tuple[list[int], slice, slice]]:
    """Yield each cell's row and where its detections and truths lie."""
    detection = truth = 0
    for row in counts.cells.tolist():
        yield row, slice(detection, detection + row[2]), slice(truth, truth + row[3])
        detection, truth = detection + row[2], truth + row[3]


def image_scores(counts: InstanceCounts, *, min_score: float = 0.5) -> dict[ImageId, float | None]:
    """Return F1 at IoU 0.5 of each image, over detections of at least ``min_score``.

    None where the image has neither counted truths nor such detections.
    """
    hits, false, truths = np.zeros((3, len(counts.image_ids)), dtype=np.int64)
    for (_, i, _, _), detections, truth in _cell_slices(counts):
        counted = counts.scores[detections] >= min_score
        counted &= ~counts.ignored[_ALL_AREAS, _IOU_50, detections]
        matched = counts.matched[_ALL_AREAS, _IOU_50, detections]
        hits[i] += np.count_nonzero(counted & matched)
        false[i] += np.count_nonzero(counted & ~matched)
        truths[i] += np.count_nonzero(~counts.truth_ignored[_ALL_AREAS, truth])
    rows = zip(hits.tolist(), false.tolist(), truths.tolist(), strict=True)
    # 2 TP / (2 TP + FP + FN), and FN = truths - TP.
    values = [2 * tp / (tp + fp + n) if tp + fp + n else None for tp, fp, n in rows]
    return dict(zip(counts.image_ids, values, strict=True))
