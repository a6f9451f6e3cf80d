"""Which classes an image has, and the loss on predicting that."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segbench.core.types import IGNORE_INDEX


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
