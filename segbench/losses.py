"""Losses on logits and label maps.

Axes: N images, C classes, H rows, W columns. ``logits`` are [N, C, H, W] before the softmax,
``target`` int64 [N, H, W] train ids. Ignored pixels take no part; where every pixel is
ignored a loss is 0 and its gradient is 0, so that a crop of nothing but void cannot turn
the weights into NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segbench.types import IGNORE_INDEX

TINY = 1e-12
"""Smallest denominator; far below the weight of one pixel."""


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the mean of -log p(target), weighted by ``class_weights`` [C], as a scalar.

    The mean divides by the summed weights of the counted pixels, as PyTorch's does.
    """
    log_probability, weight = _of_target(logits, target, ignore_index)
    if class_weights is not None:
        counted = target.where(target != ignore_index, 0)
        weight = weight * class_weights.to(weight)[counted]
    return -(weight * log_probability).sum() / weight.sum().clamp_min(TINY)


def focal(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Return the mean of -(1 - p)^gamma log p over counted pixels, a scalar.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, with a softmax.
    """
    log_probability, weight = _of_target(logits, target, ignore_index)
    modulated = weight * (1 - log_probability.exp()) ** gamma
    return -(modulated * log_probability).sum() / weight.sum().clamp_min(TINY)


def dice(
    logits: Tensor, target: Tensor, *, smooth: float = 1.0, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Return 1 - the mean soft Dice coefficient of the classes present in ``target``.

    Milletari et al., "V-Net", 3DV 2016, over the whole batch; ``smooth`` is in pixels.
    """
    probability, counted = logits.float().softmax(dim=1), target != ignore_index
    classes = functional.one_hot(target.where(counted, 0), logits.shape[1]).movedim(-1, 1)
    truth = (classes * counted[:, None]).to(probability)
    probability = probability * counted[:, None]
    axes = (0, 2, 3)
    overlap, size = (probability * truth).sum(axes), (probability + truth).sum(axes)
    present = (truth.sum(axes) > 0).to(size)
    missing = 1 - (2 * overlap + smooth) / (size + smooth)
    return (present * missing).sum() / present.sum().clamp_min(1)


def class_presence(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Return the mean binary cross-entropy of "is this class in the image", a scalar.

    ``logits`` are [N, C], one a class of each image. Zhang et al., "Context Encoding for
    Semantic Segmentation", CVPR 2018 (SE loss).
    """
    present = presence_of(target, logits.shape[1], ignore_index=ignore_index)
    return functional.binary_cross_entropy_with_logits(logits.float(), present)


def presence_of(target: Tensor, num_classes: int, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Return which classes each image has, float32 [N, C] of 0 and 1."""
    counted = target != ignore_index
    numbers = target.where(counted, num_classes).flatten(1)
    present = torch.zeros(len(target), num_classes + 1, device=target.device)
    return present.scatter_(1, numbers, 1.0)[:, :num_classes]


def _of_target(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return log p(target) and a weight of 1 for counted, 0 for ignored pixels, [N, H, W].

    A gather, because CUDA has no deterministic two-dimensional negative log likelihood.
    """
    counted = target != ignore_index
    index = target.where(counted, 0).unsqueeze(1)
    log_probability = functional.log_softmax(logits.float(), dim=1).gather(1, index).squeeze(1)
    return log_probability, counted.to(torch.float32)
