"""Weights and images that are the same on every machine and for ever.

A weight depends on its name and place alone: the numbers come from NumPy's ``RandomState``, whose
stream never changes, seeded by the name. So a stored output needs no stored weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SIZES = ((97, 131), (129, 161))
"""Odd sizes, height and width: every rounding and every border shows."""


def filled(model: nn.Module, *, gain: float = 1.0) -> Any:
    """Return the model in float64 for inference, every weight and statistic filled by its name.

    Args:
        model: Any network.
        gain: Of the weights: their standard deviation is ``gain / sqrt(inputs)``. A network
            without normalisation needs sqrt(2), or its last maps hold nothing but biases.
    """
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_values(name, parameter, gain))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")) or _is_frozen_norm(model, name):
                buffer.copy_(_values(name, buffer, gain))
    return model


def images(size: tuple[int, int], *, channels: int = 3, batch: int = 1) -> Tensor:
    """Return images [batch, channels, H, W] of about unit variance, float64."""
    drawn = _random(f"images {size}").uniform(-1.7, 1.7, (batch, channels, *size))
    return torch.from_numpy(drawn)


def _values(name: str, tensor: Tensor, gain: float) -> Tensor:
    low, high = _range(name, tensor, gain)
    drawn = _random(name).uniform(low, high, tuple(tensor.shape))
    return torch.from_numpy(np.asarray(drawn))


def _range(name: str, tensor: Tensor, gain: float) -> tuple[float, float]:
    if tensor.dim() > 1:
        half = gain * (3 * tensor.shape[0] / max(1, tensor.numel())) ** 0.5
        return -half, half
    return (-0.1, 0.1) if name.endswith(("bias", "running_mean")) else (0.7, 1.3)


def _random(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def _is_frozen_norm(model: nn.Module, name: str) -> bool:
    """Say whether a buffer is the scale or shift of a BatchNorm that cannot learn."""
    owner, _, own = name.rpartition(".")
    return own in ("weight", "bias") and "BatchNorm" in type(model.get_submodule(owner)).__name__


Forward = Callable[[nn.Module, Tensor], Any]


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    """Run one of our semantic networks."""
    found: Tensor = model(batch)["logits"]
    return found
