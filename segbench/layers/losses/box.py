"""Losses between boxes x1, y1, x2, y2 in pixels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

BoxLoss = Literal["iou", "giou"]
BOX_LOSSES: tuple[BoxLoss, ...] = get_args(BoxLoss)


def box_overlap(predicted: Tensor, target: Tensor, *, kind: BoxLoss = "giou") -> Tensor:
    """Return 1 - IoU, or 1 - GIoU, of pairs of boxes [k, 4], [k].

    GIoU: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019: the IoU less the
    share of the smallest box around both that neither covers. Both are 0 for equal boxes.
    """
    top_left = torch.maximum(predicted[:, :2], target[:, :2])
    bottom_right = torch.minimum(predicted[:, 2:], target[:, 2:])
    common = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    union = _area(predicted) + _area(target) - common
    iou = common / union.clamp(min=1e-7)
    if kind == "iou":
        return 1 - iou
    low = torch.minimum(predicted[:, :2], target[:, :2])
    high = torch.maximum(predicted[:, 2:], target[:, 2:])
    around = (high - low).clamp(min=0).prod(dim=1).clamp(min=1e-7)
    return 1 - iou + (around - union) / around


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
