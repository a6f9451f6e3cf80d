"""What UPSNet learns from besides Mask R-CNN's losses: places inside of boxes, and segments.

Xiong et al., "UPSNet: A Unified Panoptic Segmentation Network", CVPR 2019, sections 3.2 and 3.3.
Axes: N images, S semantic channels (panoptic indices, things first), K objects, h, w cells of
the semantic logits, H, W pixels. Objects are dicts of ``boxes``, ``labels`` from 1, ``masks``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from segbench.layers.losses.pixel import cross_entropy
from segbench.layers.panoptic_head import (
    IGNORED,
    inside_boxes,
    panoptic_labels,
    panoptic_logits,
    paste_logits,
)

ROI_BINS = 28
"""Places along each side of a box that the RoI loss looks at."""


def roi_loss(logits: Tensor, semantic: Tensor, boxes: list[Tensor]) -> Tensor:
    """Return the cross-entropy of semantic logits at 28x28 places of each box, a scalar.

    Args:
        logits: [N, S, h, w].
        semantic: Panoptic indices [N, H, W], 255 ignored.
        boxes: Boxes [n, 4] of each image in its pixels.
    """
    scale = logits.shape[-1] / semantic.shape[-1]
    inside = roi_align(logits.float(), boxes, ROI_BINS, scale, sampling_ratio=2, aligned=True)
    places = (torch.arange(ROI_BINS, device=logits.device) + 0.5) / ROI_BINS
    truth = []
    for labels, corners in zip(semantic, boxes, strict=True):
        low, side = corners[:, :2, None], (corners[:, 2:] - corners[:, :2])[:, :, None]
        columns, rows = (low + side * places).long().unbind(dim=1)
        truth.append(labels[rows[:, :, None], columns[:, None, :]])
    return cross_entropy(inside, torch.cat(truth))


def segment_loss(
    logits: Tensor,
    masks: Tensor,
    known: dict[str, Tensor],
    semantic: Tensor,
    *,
    num_things: int,
) -> Tensor:
    """Return the cross-entropy over stuff, objects and unknown of one image, a scalar.

    Args:
        logits: Semantic logits [S, h, w].
        masks: Mask logits [K, 28, 28] of the known objects.
        known: The objects that have a channel; what is a thing outside of them is unknown.
        semantic: Panoptic indices [H, W], 255 ignored.
        num_things: Thing classes.
    """
    size, stride = (logits.shape[-2], logits.shape[-1]), semantic.shape[-1] // logits.shape[-1]
    scores = panoptic_logits(
        logits,
        paste_logits(masks, known["boxes"], size, stride),
        inside_boxes(known["boxes"], size, stride),
        known["labels"] - 1,
        num_things=num_things,
    )
    cells = (..., slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    truth = panoptic_labels(
        semantic[cells],
        known["masks"][cells],
        num_things=num_things,
        num_stuff=len(logits) - num_things,
    )
    return cross_entropy(scores[None], truth[None], ignore_index=IGNORED)


def some(objects: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return a random ``share`` of the objects of an image, at least one where there are any."""
    number = len(objects["labels"])
    chosen = torch.randperm(number)[: max(int(number * share), 1)].to(objects["labels"].device)
    return {key: objects[key][chosen] for key in ("boxes", "labels", "masks")}
