"""Images continued beyond their borders by their mirror image."""

from __future__ import annotations

import torch
from torch import Tensor


def mirrored(places: Tensor, size: int) -> Tensor:
    """Reflect places beyond either end, about the centres of the outermost pixels."""
    period = max(2 * (size - 1), 1)
    places = places.remainder(period)
    return torch.minimum(places, period - places)


def mirror_borders(images: Tensor, margin: int, size: tuple[int, int]) -> Tensor:
    """Return images [N, C, *size] that begin ``margin`` pixels above and left of the given ones."""
    for axis, side in zip((-2, -1), size, strict=True):
        places = torch.arange(side, device=images.device) - margin
        images = images.index_select(axis, mirrored(places, images.shape[axis]))
    return images
