"""Boxes of masks."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of(masks: Tensor) -> Tensor:
    """Return float32 boxes [N, 4] of bool masks [N, H, W], far edge exclusive.

    Raises:
        ValueError: A mask has no pixel.
    """
    if len(masks) == 0:
        return torch.zeros((0, 4))
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    if not bool(rows.any(dim=1).all()):
        raise ValueError("a mask without pixels has no box")
    (left, right), (top, bottom) = _extent(columns), _extent(rows)
    return torch.stack([left, top, right, bottom], dim=1).to(torch.float32)


def _extent(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first true position and one past the last of each row of bool [N, L]."""
    numbers = lines.to(torch.uint8)
    return numbers.argmax(dim=1), lines.shape[1] - numbers.flip(1).argmax(dim=1)
