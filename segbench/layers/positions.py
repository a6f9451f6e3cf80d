"""Where a place lies in a map, as sines and cosines that attention can compare.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, in the two-dimensional form of Carion
et al., "End-to-End Object Detection with Transformers", ECCV 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST = 10_000.0
"""Ratio of the longest wavelength to the shortest."""
TINY = 1e-6


def sine_positions(
    height: int, width: int, channels: int, *, device: torch.device | None = None
) -> Tensor:
    """Return float32 [C, H, W]: half of the channels tell the row, the others the column.

    Rows count from 1 / H to 1 over the map, columns likewise, in turns of 2 pi; sine and cosine
    of one wavelength lie beside each other.

    Args:
        height: H.
        width: W.
        channels: C, a multiple of 4.
        device: Where the tensor is made.
    """
    pairs = torch.arange(channels // 4, dtype=torch.float32, device=device)
    frequencies = LONGEST ** (-pairs / pairs.numel())
    rows, columns = (_waves(side, frequencies) for side in (height, width))
    return torch.cat(
        [rows[:, :, None].expand(-1, -1, width), columns[:, None, :].expand(-1, height, -1)]
    )


def _waves(side: int, frequencies: Tensor) -> Tensor:
    """Return [2 F, side] of F frequencies."""
    places = torch.arange(1, side + 1, dtype=torch.float32, device=frequencies.device)
    turns = 2 * math.pi * places / (side + TINY)
    angles = frequencies[:, None] * turns
    return torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)
