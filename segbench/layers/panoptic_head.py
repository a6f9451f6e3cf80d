"""UPSNet's panoptic head: no parameters, one channel for each object, one for what is unknown.

Xiong, Liao, Zhao, Hu, Bai, Yumer, Urtasun, "UPSNet: A Unified Panoptic Segmentation Network",
CVPR 2019, section 3.1. Axes: S semantic channels (panoptic indices, things first), K objects,
M bins of a mask, H rows, W columns. Boxes are x1, y1, x2, y2 in pixels of the image; a map of
stride s has the centres of its cells at (i + 1/2) s.

The channels of the result are: stuff classes in their order, then objects, then unknown.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = -1
"""Label of the cells that ``panoptic_labels`` says nothing about."""


def inside_boxes(boxes: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Return bool [K, H, W]: the cells whose centre lies in each box [K, 4]."""
    rows, columns = (_centres(length, stride, boxes) for length in size)
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(dim=1))
    in_rows, in_columns = (rows >= y1) & (rows < y2), (columns >= x1) & (columns < x2)
    return in_rows[:, :, None] & in_columns[:, None, :]


def paste_logits(masks: Tensor, boxes: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Return masks [K, M, M] of boxes [K, 4], bilinear, on a map [K, H, W]; 0 outside a box."""
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(dim=1))
    rows = _weights(_centres(size[0], stride, boxes), y1, y2, masks.shape[-2])
    columns = _weights(_centres(size[1], stride, boxes), x1, x2, masks.shape[-1])
    pasted = torch.einsum("khi,kij,kwj->khw", rows, masks, columns)
    return torch.where(inside_boxes(boxes, size, stride), pasted, 0.0)


def panoptic_logits(
    semantic: Tensor, masks: Tensor, inside: Tensor, labels: Tensor, *, num_things: int
) -> Tensor:
    """Return [S - things + K + 1, H, W]: stuff, objects, unknown.

    An object has the logit of its class inside of its box, 0 outside, plus that of its mask.
    Unknown is the largest thing logit less the largest of the objects' classes: high where the
    semantic head sees a thing that no object accounts for.

    Args:
        semantic: Logits [S, H, W].
        masks: Mask logits [K, H, W], 0 where a mask says nothing.
        inside: Where each object can be, bool [K, H, W].
        labels: Panoptic index of each object, int64 [K].
        num_things: Thing classes.
    """
    things, stuff = semantic[:num_things], semantic[num_things:]
    own = torch.where(inside, semantic[labels], 0.0)
    best = own.amax(dim=0) if len(labels) else torch.zeros_like(semantic[0])
    unknown = things.amax(dim=0) - best
    return torch.cat([stuff, own + masks, unknown[None]])


def panoptic_labels(semantic: Tensor, masks: Tensor, *, num_things: int, num_stuff: int) -> Tensor:
    """Return the channel each cell should have, int64 [H, W]; ``IGNORED`` where there is no class.

    Args:
        semantic: Panoptic indices [H, W]; what is above any class is ignored.
        masks: Objects that are known, bool [K, H, W]; things in none of them are unknown.
        num_things: Thing classes.
        num_stuff: Stuff classes.
    """
    is_stuff = (semantic >= num_things) & (semantic < num_things + num_stuff)
    labels = torch.where(is_stuff, semantic - num_things, IGNORED)
    unknown = num_stuff + len(masks)
    labels = torch.where(semantic < num_things, unknown, labels)
    for number, mask in enumerate(masks):
        labels = torch.where(mask, num_stuff + number, labels)
    return labels


def _centres(length: int, stride: int, like: Tensor) -> Tensor:
    return (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) * stride


def _weights(centres: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Return [K, L, M]: how much of each bin between ``low`` and ``high`` [K, 1] a place has."""
    place = (centres - low) / (high - low).clamp_min(1e-6) * bins - 0.5
    numbers = torch.arange(bins, device=centres.device, dtype=centres.dtype)
    distance = place.clamp(0, bins - 1)[..., None] - numbers
    return (1 - distance.abs()).clamp_min(0)
