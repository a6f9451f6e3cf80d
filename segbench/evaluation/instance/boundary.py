"""Boundary AP: COCO's matching by the smaller of mask IoU and boundary IoU.

The rule is boundary-iou-api's: boundaries follow ``boundary``, areas stay those of the masks, and
crowds are matched by mask alone. A pair whose masks miss the lowest threshold cannot reach it,
so boundaries are only found for pairs of masks that do.
"""

from __future__ import annotations

import numpy as np
from pycocotools.cocoeval import Params

from segbench.evaluation.boundary.distance import boundary_distance
from segbench.evaluation.instance.matching import Items, Matches, Pairs, match_pairs, overlapping
from segbench.evaluation.instance.shapes import Masks


def match_boundaries(truths: Items, detections: Items, params: Params) -> Matches:
    """Match masks and their boundaries as COCOeval matches masks; see ``match_items``."""
    pairs = boundary_pairs(truths, detections, float(params.iouThrs[0]))
    return match_pairs(truths, detections, pairs, params)


def boundary_pairs(truths: Items, detections: Items, lowest: float) -> Pairs:
    """Return the pairs whose mask IoU and boundary IoU are both at least ``lowest``."""
    from segbench.evaluation.instance import boundary_kernels as boundary_mask_kernels

    pairs = overlapping(truths, detections, lowest)
    one, other = truths.shapes, detections.shapes
    if not isinstance(one, Masks) or not isinstance(other, Masks):
        raise TypeError("boundaries are those of masks")
    heights, widths = one.heights, one.pixels // one.heights
    sizes = zip(heights.tolist(), widths.tolist(), strict=True)
    distances = np.array([boundary_distance(*size) for size in sizes], dtype=np.int64)
    boundary_mask_kernels.narrow_pairs(one, truths.cell, truths.crowd, other, distances, pairs)
    kept = pairs.iou >= lowest
    return Pairs(pairs.detection[kept], pairs.truth[kept], pairs.iou[kept])
