"""Instance segmentation: COCO's 12 numbers, from matches that are stored and read again.

pycocotools is the arbiter: IoUs are its own, ``_coco_matching`` finds the matches it finds, and
the stored matches are handed back to its own accumulation, so the numbers equal a direct run
to the last bit, for every subset too.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from segbench.errors import ConfigError, DataError
from segbench.evaluation._coco_items import CellIndex, detection_items, truth_items
from segbench.evaluation._coco_matching import match_items
from segbench.evaluation.coco_files import IouType, compress_masks, load_instances
from segbench.evaluation.coco_oddities import instance_oddities
from segbench.evaluation.protocol import Protocol
from segbench.types import BoolArray, FloatArray, IntArray

ImageId = int | str
_KEYS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)
"""COCOeval's twelve numbers in its order."""
PREFIX: Mapping[IouType, str] = {"segm": "", "bbox": "box_"}
_ALL_AREAS, _IOU_50, _IOU_75 = 0, 0, 5


@dataclass(frozen=True, eq=False)
class InstanceCounts:
    """COCO matches of each image.

    A cell is one category on one image that has truths or detections; cells are ordered by
    class, then image. Detections [D] and truths [G] are concatenated in cell order, at most
    100 detections a cell, best score first. A areas (all, small, medium, large), T IoU
    thresholds (0.50 to 0.95).

    ``cells`` int64 [n, 4]: class index, image index, detections, truths. ``scores`` float64
    [D]. ``matched``, ``ignored`` bool [A, T, D]. ``truth_ignored`` bool [A, G].
    """

    iou_type: IouType
    category_ids: tuple[int, ...]
    image_ids: tuple[ImageId, ...]
    cells: IntArray
    scores: FloatArray
    matched: BoolArray
    ignored: BoolArray
    truth_ignored: BoolArray

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        return merge([self, other])

    def subset(self, image_ids: Iterable[ImageId]) -> InstanceCounts:
        """Return the counts of some images, in the order they have here."""
        wanted = set(image_ids)
        return self._take([i for i, image in enumerate(self.image_ids) if image in wanted])

    def _take(self, kept: Sequence[int]) -> InstanceCounts:
        """Return the counts of the images at these indices, in this order."""
        index = np.full(len(self.image_ids), -1, dtype=np.int64)
        index[kept] = np.arange(len(kept))
        images = index[self.cells[:, 1]]
        order = np.lexsort((images, self.cells[:, 0]))
        order = order[images[order] >= 0]
        cells = self.cells[order].copy()
        cells[:, 1] = images[order]
        detections = _ranges(self.cells[:, 2], order)
        return InstanceCounts(
            self.iou_type,
            self.category_ids,
            tuple(self.image_ids[i] for i in kept),
            cells,
            self.scores[detections],
            self.matched[:, :, detections],
            self.ignored[:, :, detections],
            self.truth_ignored[:, _ranges(self.cells[:, 3], order)],
        )

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays for storage."""
        return {field.name: np.array(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> InstanceCounts:
        """Return the counts that ``to_arrays`` took apart."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        for key in ("category_ids", "image_ids"):
            values[key] = tuple(values[key].tolist())
        return cls(**{**values, "iou_type": str(values["iou_type"])})


def _ranges(lengths: IntArray, chosen: IntArray) -> IntArray:
    """Return the indices of the chosen ones of many concatenated ranges."""
    starts = np.cumsum(lengths) - lengths
    picked = lengths[chosen]
    before = np.cumsum(picked) - picked
    shifts: IntArray = np.repeat(starts[chosen] - before, picked) + np.arange(picked.sum())
    return shifts


def merge(parts: Sequence[InstanceCounts]) -> InstanceCounts:
    """Join the counts of several images or shards; images end up sorted by id."""
    if len({(part.iou_type, part.category_ids) for part in parts}) != 1:
        raise DataError("instance counts to be added need one IoU type and the same categories")
    first = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    cells = [part.cells + np.array([0, n, 0, 0]) for part, n in zip(parts, first, strict=False)]
    joined = InstanceCounts(
        parts[0].iou_type,
        parts[0].category_ids,
        tuple(image_id for part in parts for image_id in part.image_ids),
        np.concatenate(cells),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.matched for part in parts], axis=2),
        np.concatenate([part.ignored for part in parts], axis=2),
        np.concatenate([part.truth_ignored for part in parts], axis=1),
    )
    return joined._take(np.argsort(np.array(joined.image_ids), kind="stable").tolist())


def match(
    truth_json: Path,
    results_json: Path,
    *,
    iou_type: IouType,
    warnings: list[str] | None = None,
) -> InstanceCounts:
    """Match detections with the truth as pycocotools does.

    Args:
        truth_json: COCO instances JSON.
        results_json: COCO results JSON with RLE masks and, for boxes, ``bbox``; boxes are
            taken from the masks where no detection has one.
        iou_type: ``segm`` for masks, ``bbox`` for boxes.
        warnings: With masks, takes what is odd in the files though it can be scored.

    Raises:
        DataError: A file has one of the faults ``segbench.evaluation.coco_files`` looks for.
    """
    files = load_instances(truth_json, results_json, iou_type=iou_type)
    if warnings is not None and iou_type == "segm":
        places = {"truth_json": truth_json, "results_json": results_json}
        warnings.extend(instance_oddities(files.truth, files.detections, **places))
    sizes = {image["id"]: (image["height"], image["width"]) for image in files.truth["images"]}
    compress_masks(files.detections, sizes)
    return match_entries(files.truth, files.detections, iou_type=iou_type)


def match_entries(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], *, iou_type: IouType
) -> InstanceCounts:
    """Match what ``load_instances`` has checked, with compressed masks; see ``match``."""
    params = Params(iouType=iou_type)
    image_ids = np.unique([image["id"] for image in truth["images"]]).tolist()
    category_ids = np.unique([c["id"] for c in truth["categories"]]).tolist()
    place = CellIndex(image_ids, category_ids)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    found = detection_items(detections, place, iou_type).best_first(params.maxDets[-1])
    known = truth_items(truth["annotations"], place, iou_type, sizes)
    matches = match_items(known, found, params)
    used = np.union1d(known.cell, found.cell).astype(np.int64)
    numbers = [
        np.searchsorted(i.cell, used, "right") - np.searchsorted(i.cell, used)
        for i in (found, known)
    ]
    cells = np.stack([*divmod(used, max(len(image_ids), 1)), *numbers], axis=1)
    return InstanceCounts(
        iou_type,
        tuple(category_ids),
        tuple(image_ids),
        cells.astype(np.int64),
        found.score,
        matches.matched,
        matches.ignored,
        matches.truth_ignored,
    )


def scores(counts: InstanceCounts, protocol: Protocol) -> dict[str, Any]:
    """Turn matches into COCO's numbers.

    Returns:
        The 12 numbers ``ap`` ... ``ar_large`` (fractions, None without truth), with
        ``box_`` in front for boxes, and ``per_class``: a dict a category with ``ap``,
        ``ap50``, ``ap75`` and ``ar_100``, prefixed likewise.

    Raises:
        ConfigError: The protocol is for another task.
    """
    if protocol.task != "instance":
        raise ConfigError(f"protocol '{protocol.id}' scores {protocol.task}, not instance")
    evaluator = _to_evaluator(counts)
    with redirect_stdout(io.StringIO()):
        evaluator.accumulate()
        evaluator.summarize()
    prefix = PREFIX[counts.iou_type]
    numbers = zip(_KEYS, evaluator.stats.tolist(), strict=True)
    result: dict[str, Any] = {prefix + key: _optional(value) for key, value in numbers}
    return {**result, "per_class": list(_per_class(evaluator, prefix))}


def _optional(value: float) -> float | None:
    """Return None for COCO's -1, "no truth here"."""
    return None if value == -1 else value


def _per_class(evaluator: Any, prefix: str) -> Iterator[dict[str, float | None]]:
    precision = evaluator.eval["precision"][:, :, :, _ALL_AREAS, -1]
    recall = evaluator.eval["recall"][:, :, _ALL_AREAS, -1]
    for k in range(precision.shape[2]):
        parts = {
            "ap": precision[:, :, k],
            "ap50": precision[_IOU_50, :, k],
            "ap75": precision[_IOU_75, :, k],
            "ar_100": recall[:, k],
        }
        yield {prefix + key: _mean_known(values) for key, values in parts.items()}


def _mean_known(values: FloatArray) -> float | None:
    known = values[values > -1]
    return float(np.mean(known)) if known.size else None


def _to_evaluator(counts: InstanceCounts) -> Any:
    """Return a COCOeval in the state it has after ``evaluate``."""
    evaluator = COCOeval(iouType=counts.iou_type)
    evaluator.params.imgIds = list(counts.image_ids)
    evaluator.params.catIds = list(counts.category_ids)
    evaluator._paramsEval = copy.deepcopy(evaluator.params)
    num_areas, num_images = len(evaluator.params.areaRng), len(counts.image_ids)
    matches: list[Any] = [None] * (len(counts.category_ids) * num_areas * num_images)
    for (k, i, _, _), detections, truths in _cell_slices(counts):
        for a in range(num_areas):
            matches[(k * num_areas + a) * num_images + i] = {
                "dtScores": counts.scores[detections],
                "dtMatches": counts.matched[a, :, detections],
                "dtIgnore": counts.ignored[a, :, detections],
                "gtIgnore": counts.truth_ignored[a, truths],
            }
    evaluator.evalImgs = matches
    return evaluator


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
