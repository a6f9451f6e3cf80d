"""Losses that are a mean over pixels.

Axes: N images, C classes, H rows, W columns. ``logits`` are [N, C, H, W] before the softmax,
``target`` int64 [N, H, W] train ids. ``class_weights`` [C] and ``pixel_weights`` [N, H, W]
multiply each other. Ignored pixels take no part; where every pixel is ignored a loss is 0 and
its gradient is 0, so that a crop of nothing but void cannot turn the weights into NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segbench.core.types import IGNORE_INDEX

TINY = 1e-12
"""Smallest denominator; far below the weight of one pixel."""


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the weighted mean of -log p(target), a scalar.

    The mean divides by the summed weights of the counted pixels, as PyTorch's does.
    """
    log_probability = _of_target(logits, target, ignore_index)
    weight = _weights(log_probability, target, class_weights, pixel_weights, ignore_index)
    return -(weight * log_probability).sum() / weight.sum().clamp_min(TINY)


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the weighted mean of -(1 - p)^gamma log p over counted pixels, a scalar.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, with a softmax.
    """
    log_probability = _of_target(logits, target, ignore_index)
    weight = _weights(log_probability, target, class_weights, pixel_weights, ignore_index)
    modulated = weight * (1 - log_probability.exp()) ** gamma
    return -(modulated * log_probability).sum() / weight.sum().clamp_min(TINY)


def ohem(
    logits: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: int = 100_000,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the mean of -log p(target) over the hard pixels of a batch, a scalar.

    Hard are those with p(target) below ``threshold``, and at least the ``min_kept`` least
    likely ones (all where there are fewer). Shrivastava, Gupta and Girshick, "Training
    Region-based Object Detectors with Online Hard Example Mining", CVPR 2016, over pixels as
    the authors of HRNet and OCRNet train: the sum is divided by the number of hard pixels,
    whatever their weights.
    """
    log_probability = _of_target(logits, target, ignore_index)
    counted = target != ignore_index
    weight = _weights(log_probability, target, class_weights, pixel_weights, ignore_index)
    certainty = log_probability.detach().exp().masked_fill(~counted, torch.inf)
    limit = certainty.new_tensor(threshold)
    if min_kept < certainty.numel():
        smallest = certainty.flatten().topk(min_kept + 1, largest=False, sorted=False).values
        limit = torch.maximum(limit, smallest.max())
    else:
        limit = limit.new_tensor(torch.inf)
    hard = (certainty < limit).to(weight)
    return -(hard * weight * log_probability).sum() / hard.sum().clamp_min(1)


def _of_target(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Return log p(target) [N, H, W], of class 0 where the target is ignored.

    A gather, because CUDA has no deterministic two-dimensional negative log likelihood.
    """
    index = target.where(target != ignore_index, 0).unsqueeze(1)
    return functional.log_softmax(exact(logits), dim=1).gather(1, index).squeeze(1)


def _weights(
    like: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    pixel_weights: Tensor | None,
    ignore_index: int,
) -> Tensor:
    """Return the weight of each pixel, 0 where it is ignored, [N, H, W]."""
    counted = target != ignore_index
    weight = counted.to(like)
    if class_weights is not None:
        weight = weight * class_weights.to(weight)[target.where(counted, 0)]
    return weight if pixel_weights is None else weight * pixel_weights.to(weight)


def exact(logits: Tensor) -> Tensor:
    """Return logits in at least float32: sums over pixels need it."""
    return logits if logits.dtype == torch.float64 else logits.float()
