"""Boundary PQ: panoptic quality with the smaller of mask IoU and boundary IoU of each pair.

The rule is boundary-iou-api's. The boundary of a segment follows ``boundary``; the union is
both boundary areas less their intersection less the predicted boundary on void truth. Errors
and what excuses them are those of panoptic quality. One difference: the tool renames inner
pixels to the id after the highest category id, so a segment of just that id swallows them;
here it does not.

Only pairs that match by mask can match by boundary, so every match of ``PanopticCounts`` gets
three more numbers, and ``boundary_matches`` turns them into the counts of Boundary PQ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segbench.evaluation._matching import Pairs, Segment
from segbench.evaluation._runs import run_starts, sum_by_value
from segbench.evaluation.boundary import boundary_map
from segbench.types import VOID, IntArray

_ID_BITS = 24


@dataclass(frozen=True)
class BoundaryPairs:
    """Boundary pixels of an image: of each true and predicted id, and shared by two ids.

    ``shared`` also holds, under true id 0, the predicted boundaries on void truth.
    """

    truths: dict[int, int]
    predictions: dict[int, int]
    shared: Pairs

    def overlap(self, truth_id: int, predicted_id: int) -> tuple[int, int]:
        """Return intersection and union of the boundaries of two segments, in pixels."""
        shared = self.shared.get((truth_id, predicted_id), 0)
        either = self.truths[truth_id] + self.predictions[predicted_id] - shared
        return shared, either - self.shared.get((VOID, predicted_id), 0)


def count_boundary_pairs(truth: IntArray, prediction: IntArray) -> BoundaryPairs:
    """Count the boundary pixels of two id maps [H, W] of one size, ids below 2^24."""
    near_truth, near_prediction = boundary_map(truth), boundary_map(prediction)
    starts, lengths = run_starts(truth, prediction, near_truth, near_prediction)
    true_ids, predicted_ids = (
        ids.reshape(-1)[starts].astype(np.uint64) for ids in (truth, prediction)
    )
    at_truth, at_prediction = near_truth.reshape(-1)[starts], near_prediction.reshape(-1)[starts]
    both = at_prediction & (at_truth | (true_ids == VOID))
    keys = true_ids[both] << np.uint64(_ID_BITS) | predicted_ids[both]
    shared = _as_dict(*sum_by_value(keys, lengths[both]))
    return BoundaryPairs(
        _as_dict(*sum_by_value(true_ids[at_truth], lengths[at_truth])),
        _as_dict(*sum_by_value(predicted_ids[at_prediction], lengths[at_prediction])),
        {(key >> _ID_BITS, key & (1 << _ID_BITS) - 1): pixels for key, pixels in shared.items()},
    )


def _as_dict(values: IntArray, pixels: IntArray) -> dict[int, int]:
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def add_boundaries(
    matches: Sequence[tuple[int, ...]],
    boundaries: BoundaryPairs,
    truths: Mapping[int, Segment],
    predictions: Mapping[int, Segment],
    pairs: Pairs,
) -> list[tuple[int, ...]]:
    """Append three numbers to each match of an image.

    They are intersection and union of the two boundaries, and 1 where the prediction would be
    no false positive if the match fell away: more than half of it lies on void or on crowds of
    its category.
    """
    return [
        (*row, *boundaries.overlap(row[2], row[3]), _is_excused(row[3], truths, predictions, pairs))
        for row in matches
    ]


def _is_excused(
    predicted_id: int,
    truths: Mapping[int, Segment],
    predictions: Mapping[int, Segment],
    pairs: Pairs,
) -> int:
    segment = predictions[predicted_id]
    excuses = [
        VOID,
        *(i for i, s in truths.items() if s.iscrowd and s.category == segment.category),
    ]
    return int(2 * sum(pairs.get((i, predicted_id), 0) for i in excuses) > segment.area)


def boundary_matches(matches: IntArray) -> tuple[IntArray, IntArray]:
    """Return the matches of Boundary PQ and the errors that take the place of the others.

    Args:
        matches: Int64 [n, 9], as ``PanopticCounts`` has them with boundaries counted.

    Returns:
        Int64 [k, 6], with the overlap of the smaller IoU, and [n - k, 4]: rows of ``matches`` and
        of ``errors`` of ``PanopticCounts``.
    """
    boundary_iou = matches[:, 6] / matches[:, 7]
    kept = boundary_iou > 0.5
    with np.errstate(divide="ignore"):  # panopticapi's areas may give a mask union of 0
        smaller = (boundary_iou < matches[:, 4] / matches[:, 5])[kept, None]
    found, lost = matches[kept], matches[~kept]
    overlap = np.where(smaller, found[:, 6:8], found[:, 4:6])
    errors = np.stack([lost[:, 0], lost[:, 1], 1 - lost[:, 8], np.ones_like(lost[:, 8])], axis=1)
    return np.concatenate([found[:, :4], overlap], axis=1), errors
