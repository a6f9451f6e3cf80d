"""Cityscapes' iIoU and instance AP of weighted images; axes as in ``evaluation.resampled``.

E examples of a class at a threshold (see ``average_precision.Examples``). A weight of w stands for
w copies of an image; copies share their scores, so the curve of a resample has the same points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from segbench.core.types import FloatArray, IntArray
from segbench.datasets.classes.cityscapes import CLASSES
from segbench.evaluation.cityscapes.average_precision import (
    OVERLAPS,
    Examples,
    OverlapCounts,
    examples_of,
    of_class,
)
from segbench.evaluation.instance.resampled import DECAY
from segbench.evaluation.protocols.cityscapes_labels import THING_IDS
from segbench.evaluation.ratios import ClassMean, divide, mean_known
from segbench.evaluation.semantic.instance_weighted import (
    CATEGORY_LABELS,
    MEAN_SIZES,
    Key,
    LabelCounts,
    false_cells,
    weighted,
)

LABEL_METRICS: Mapping[str, bool] = {"iiou": False, "category_iiou": False, "iiou.": True}
OVERLAP_METRICS: Mapping[str, bool] = {"ap": False, "ap50": False, "ap.": True, "ap50.": True}
"""Metric -> whether a class follows."""
_CELLS = 2_000_000
"""Weights of examples held at a time, R x E."""
Evaluator = tuple[IntArray, Callable[[FloatArray], FloatArray]]


def label_evaluator(
    counts: LabelCounts, place: IntArray, *, key: str, index: int | None
) -> Evaluator:
    """Return true pixels [N, 34] and the iIoU of weights [R, N]."""
    keys: Sequence[Key] = tuple(CATEGORY_LABELS if key == "category_iiou" else MEAN_SIZES)
    if index is not None:
        keys = [CLASSES[index].id] if CLASSES[index].isthing else []
    truth = np.zeros((len(counts.image_ids), 34), dtype=np.int64)
    np.add.at(truth, (place[counts.entries[:, 0]], counts.entries[:, 1]), counts.entries[:, 3])
    tables = [_weighted_pixels(counts, place, each) for each in keys]
    return truth, partial(_label_scores, np.array(tables).reshape(-1, len(truth), 2))


def _weighted_pixels(counts: LabelCounts, place: IntArray, key: Key) -> FloatArray:
    """Return hits and the union of a class or category on each image [N, 2]."""
    table = np.zeros((len(counts.image_ids), 2))
    images, pixels = weighted(counts, key)
    np.add.at(table, place[images], np.stack([pixels[:, 0], pixels.sum(axis=1)], axis=1))
    rows, columns = false_cells(key)
    false = counts.entries[
        np.isin(counts.entries[:, 1], rows) & np.isin(counts.entries[:, 2], columns)
    ]
    np.add.at(table[:, 1], place[false[:, 0]], false[:, 3])
    return table


def _label_scores(tables: FloatArray, weights: FloatArray) -> FloatArray:
    hits, union = (weights @ tables[:, :, part].T for part in (0, 1))
    return mean_known(divide(hits, union))


def overlap_evaluator(
    counts: OverlapCounts, place: IntArray, *, key: str, index: int | None
) -> Evaluator:
    """Return counted truths [N, 8] and the AP of weights [R, N]."""
    classes = [of_class(counts, label_id) for label_id in THING_IDS]
    truth = np.zeros((len(counts.image_ids), len(THING_IDS)), dtype=np.int64)
    for k, each in enumerate(classes):
        np.add.at(truth[:, k], place[each.truths[each.counted, 0]], 1)
    wanted = range(len(classes)) if index is None else [index]
    levels = 1 if key == "ap50" else len(OVERLAPS)
    examples = [
        [_Curve.of(e, place) for e in list(examples_of(classes[k]))[:levels]] for k in wanted
    ]
    chosen = truth[:, list(wanted)].astype(np.float64)
    return truth, ClassMean(partial(_class_values, examples, chosen), chosen > 0, DECAY)


class _Curve:
    """Examples by rising score: image columns, hits [E], and where each new score starts."""

    def __init__(self, columns: IntArray, hits: FloatArray, first: IntArray) -> None:
        self.columns, self.hits, self.first = columns, hits, first

    @classmethod
    def of(cls, examples: Examples, place: IntArray) -> _Curve:
        order = np.argsort(examples.score, kind="stable")
        first = np.unique(examples.score[order], return_index=True)[1]
        return cls(place[examples.image[order]], examples.hit[order].astype(np.float64), first)

    def area(self, weights: FloatArray, truths: FloatArray) -> FloatArray:
        """Return AP of weights [R, N], where there are ``truths`` [R] above 0."""
        if not len(self.first):
            return np.zeros(len(weights))
        drawn = weights[:, self.columns]
        reached, hits = (self._from_score(w) for w in (drawn, drawn * self.hits))
        # Nothing is left above such a score: the point where the curve starts.
        precision = np.where(reached > 0, hits / np.maximum(reached, 1e-300), 1.0)
        # Recall is divided by the truths last: whole numbers of hits keep a perfect AP at 1.
        padded = np.concatenate([hits[:, :1], hits, np.zeros((len(hits), 2))], axis=1)
        steps = padded[:, :-2] - padded[:, 2:]
        total = (precision * steps[:, :-1]).sum(axis=1) + steps[:, -1]
        return divide(total, 2 * truths)

    def _from_score(self, amounts: FloatArray) -> FloatArray:
        """Return the sum of [R, E] over the examples of each score and above."""
        sums: FloatArray = np.cumsum(amounts[:, ::-1], axis=1)[:, ::-1][:, self.first]
        return sums


def _class_values(
    classes: Sequence[Sequence[_Curve]], truth: FloatArray, weights: FloatArray
) -> FloatArray:
    """Return the mean over thresholds of each class [R, C], NaN without truth in the resample."""
    totals = weights @ truth
    values = np.zeros(totals.shape)
    for k, curves in enumerate(classes):
        for curve in curves:
            step = max(1, _CELLS // max(1, len(curve.columns)))
            for start in range(0, len(weights), step):
                rows = slice(start, start + step)
                values[rows, k] += curve.area(weights[rows], totals[rows, k])
        values[:, k] /= len(curves)
    known: FloatArray = np.where(totals > 0, values, np.nan)
    return known
