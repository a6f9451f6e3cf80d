"""Before and after UPSNet's panoptic logits: which objects take part, what they end up as.

Xiong et al., "UPSNet: A Unified Panoptic Segmentation Network", CVPR 2019, with the steps of
its authors' repository. Numbers of classes are panoptic indices. Axes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torchvision.ops import box_iou

from segbench.core.types import BoolArray, Instances, IntArray, PanopticMap
from segbench.layers.panoptic_merge import merge_panoptic

BOX_IOU = 0.5
"""Of boxes that overlap by more, whatever their classes, only the best takes part."""


def choose_objects(
    objects: Instances, *, score_threshold: float, overlap_threshold: float
) -> list[int]:
    """Return the numbers of the objects that get a channel, best first.

    Left out are objects of a score below ``score_threshold``, those whose box overlaps a kept
    one of a higher score by an IoU above 0.5, and those of whose mask more than
    ``overlap_threshold`` is covered by better objects of their class. Boxes of equal scores,
    as those an oracle gives, do not suppress each other.
    """
    chosen: list[int] = []
    covered: dict[int, BoolArray] = {}
    for index in _separate(objects, score_threshold):
        mask, label = objects.masks[index], int(objects.labels[index])
        before = covered.get(label, np.zeros_like(mask))
        if mask.any() and (mask & before).sum() / mask.sum() <= overlap_threshold:
            chosen.append(index)
            covered[label] = before | mask
    return chosen


def settle(
    objects: Instances,
    stuff: IntArray,
    semantic: IntArray,
    *,
    num_things: int,
    stuff_area: int,
) -> PanopticMap:
    """Return the segments of objects and stuff that share no pixel.

    An object at least half of whose pixels are stuff of one class to the semantic head, which
    is also the most frequent class there, becomes that stuff. Then small stuff becomes void.

    Args:
        objects: Objects, labels from 1, with the pixels that each one won.
        stuff: Panoptic indices [H, W] where stuff won, 255 elsewhere.
        semantic: Panoptic indices [H, W] of the semantic head.
        num_things: Thing classes.
        stuff_area: Stuff classes with fewer pixels become void.
    """
    stuff, masks = stuff.copy(), objects.masks.copy()
    for mask in masks:
        counts = np.bincount(semantic[mask], minlength=num_things + 1)
        label = int(counts.argmax())
        if label >= num_things and 2 * counts[label] >= counts.sum():
            stuff[mask], mask[:] = label, False
    return merge_panoptic(
        replace(objects, masks=masks),
        stuff,
        num_things=num_things,
        score_threshold=0.0,
        overlap_threshold=1.0,
        stuff_area=stuff_area,
    )


def _separate(objects: Instances, score_threshold: float) -> Iterator[int]:
    """Yield the objects whose box is not that of a better one, best first."""
    if objects.scores is None:
        raise ValueError("the panoptic head orders objects by score, and these have none")
    scores = objects.scores
    boxes = torch.from_numpy(objects.boxes.astype(np.float64))
    close = (box_iou(boxes, boxes) > BOX_IOU).numpy()
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        better = [k for k in kept if scores[k] > scores[index]]
        if scores[index] >= score_threshold and not close[index, better].any():
            kept.append(index)
            yield index
