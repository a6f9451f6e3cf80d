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

import numpy as np

from segbench.core.types import VOID, IntArray
from segbench.evaluation.boundary.distance import boundary_map
from segbench.evaluation.panoptic.matching import Pairs, Segment, areas_of, count_pairs

_INNER = 24
"""Bit that inner pixels of the ground truth have set in their id."""


def count_boundary_pairs(truth: IntArray, prediction: IntArray) -> Pairs:
    """Return the pixels of each pair of ids of two id maps [H, W] with inner pixels renamed.

    Inner pixels of true segments have bit 24 set in their id, those of predicted ones are void.
    """
    truth, prediction = (ids.astype(np.int32, copy=False) for ids in (truth, prediction))
    inner = (~boundary_map(truth)).astype(np.int32)
    return count_pairs(truth | inner << _INNER, prediction * boundary_map(prediction))


def add_boundaries(
    matches: Sequence[tuple[int, ...]],
    boundaries: Pairs,
    truths: Mapping[int, Segment],
    predictions: Mapping[int, Segment],
    pairs: Pairs,
    strict: bool,
) -> list[tuple[int, ...]]:
    """Append three numbers to each match of an image.

    ``boundaries`` are those of ``count_boundary_pairs``. The numbers are intersection and union
    of the two boundaries, and 1 where the prediction would be no false positive if the match fell
    away: more than half of it lies on void or on crowds of its category.
    """
    areas = areas_of(boundaries, 0), areas_of(boundaries, 1)
    found = []
    for row in matches:
        shared = boundaries.get((row[2], row[3]), 0)
        on_void = sum(boundaries.get((void, row[3]), 0) for void in (VOID, VOID | 1 << _INNER))
        either = areas[0][row[2]] + areas[1][row[3]] - shared - on_void
        excused = _excused_pixels(row[3], predictions[row[3]], truths, pairs, strict)
        found.append((*row, shared, either, int(2 * excused > predictions[row[3]].area)))
    return found


def _excused_pixels(
    predicted_id: int, segment: Segment, truths: Mapping[int, Segment], pairs: Pairs, strict: bool
) -> int:
    """Return the pixels on void and on crowds of the category, strictly the last crowd alone."""
    crowds = [i for i, s in truths.items() if s.iscrowd and s.category == segment.category]
    excuses = (VOID, *(crowds[-1:] if strict else crowds))
    return sum(pairs.get((excuse, predicted_id), 0) for excuse in excuses)


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
