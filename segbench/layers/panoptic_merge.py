"""The combine rule: instances over stuff, each pixel to one segment.

Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 7, with the limit on the area
of stuff segments that the COCO baselines use. Numbers of classes are panoptic indices.
"""

from __future__ import annotations

import numpy as np

from segbench.core.types import VOID, Instances, IntArray, PanopticMap, Segment


def merge_panoptic(
    instances: Instances,
    stuff: IntArray,
    *,
    num_things: int,
    score_threshold: float = 0.5,
    overlap_threshold: float = 0.5,
    stuff_area: int = 4096,
) -> PanopticMap:
    """Paint instances by falling score, then stuff on the pixels that are left.

    Args:
        instances: Scored objects, labels from 1 in thing order; ties keep their order.
        stuff: Panoptic indices [H, W]; pixels of things or above any class (255) stay void.
        num_things: Thing classes, so the first panoptic index of stuff.
        score_threshold: Instances with a lower score take no part.
        overlap_threshold: An instance is skipped when a larger share of it is taken already.
        stuff_area: Stuff classes with fewer free pixels become void.

    Returns:
        Segments numbered from 1 in the order they were painted.
    """
    ids = np.full(stuff.shape, VOID, dtype=np.int32)
    segments: list[Segment] = []
    scores = _scores(instances)
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] >= score_threshold:
            free = _free_pixels(instances.masks[index], ids, overlap_threshold)
            label = int(instances.labels[index]) - 1
            _paint(ids, segments, free, label=label, score=float(scores[index]))
    for label in np.unique(stuff[(stuff >= num_things) & (stuff != 255)]):
        free = (stuff == label) & (ids == VOID)
        if free.sum() >= stuff_area:
            _paint(ids, segments, free, label=int(label), score=None)
    return PanopticMap(ids=ids, segments=tuple(segments))


def panoptic_labels(panoptic: PanopticMap, background: IntArray) -> IntArray:
    """Return the panoptic index of each pixel [H, W], ``background`` where there is no segment."""
    table = np.zeros(len(panoptic.segments) + 1, dtype=background.dtype)
    for segment in panoptic.segments:
        table[segment.id] = segment.label
    labels: IntArray = np.where(panoptic.ids == VOID, background, table[panoptic.ids])
    return labels


def _scores(instances: Instances) -> np.ndarray:
    if instances.scores is None:
        raise ValueError("the panoptic merge orders instances by score, and these have none")
    return instances.scores


def _free_pixels(mask: np.ndarray, ids: IntArray, overlap_threshold: float) -> np.ndarray:
    """Return the pixels an instance may take; none when too much of it is taken already."""
    free = mask & (ids == VOID)
    area = int(mask.sum())
    skip = area > 0 and (area - int(free.sum())) / area > overlap_threshold
    return np.zeros_like(free) if skip else free


def _paint(
    ids: IntArray, segments: list[Segment], free: np.ndarray, *, label: int, score: float | None
) -> None:
    area = int(free.sum())
    if area == 0:
        return
    segment_id = len(segments) + 1
    isthing = score is not None
    ids[free] = segment_id
    segments.append(Segment(id=segment_id, label=label, isthing=isthing, area=area, score=score))
