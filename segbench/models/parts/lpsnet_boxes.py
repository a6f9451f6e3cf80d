"""From what LPSNet says of every point to boxes, and from boxes to where objects may be.

Axes: P points of all levels, n objects of an image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from segbench.core.types import Instances
from segbench.models.bases.detection import to_instances
from segbench.models.fcos import box_masks
from segbench.models.parts.lpsnet_samples import Points

NMS_IOU = 0.6
"""Of two boxes of one class that overlap more than this, the surer stays, as in FCOS."""
MAX_CANDIDATES, MAX_OBJECTS = 1000, 100


def boxes_around(points: Points, distances: Tensor) -> Tensor:
    """Return x1, y1, x2, y2 [..., P, 4] of distances [..., P, 4] from the points."""
    middles = points.places.to(distances.dtype) + 0.5
    return torch.cat((middles - distances[..., :2], middles + distances[..., 2:]), dim=-1)


def best_boxes(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    size: tuple[int, int],
    score_threshold: float,
) -> Instances:
    """Return the boxes of one image that are no double of a surer one, best first, filled.

    Args:
        boxes: [P, 4].
        scores: [P] in [0, 1].
        labels: int64 [P].
        size: Height and width that boxes are clipped to.
        score_threshold: Boxes that do not score more are left out.
    """
    boxes = clip_boxes_to_image(boxes, size)
    kept = (scores > score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    kept = kept.nonzero()[:, 0]
    kept = kept[scores[kept].argsort(descending=True, stable=True)[:MAX_CANDIDATES]]
    unique = batched_nms(boxes[kept], scores[kept], labels[kept], NMS_IOU)
    best = kept[unique[:MAX_OBJECTS]]
    objects = {"boxes": boxes[best], "scores": scores[best], "labels": labels[best]}
    return to_instances(objects, box_masks(boxes[best].cpu().numpy(), size))


def certain_boxes(objects: Instances, size: tuple[int, int]) -> Instances:
    """Return given boxes and labels with score 1, filled."""
    return Instances(
        masks=box_masks(objects.boxes, size),
        labels=objects.labels,
        boxes=objects.boxes,
        scores=np.ones(len(objects), dtype=np.float32),
    )
