"""The parts of LPSNet that have parameters, besides backbone and semantic head.

Axes: N images, C channels, P points of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segbench.core.errors import ConfigError
from segbench.layers.conv import group_norm
from segbench.layers.pyramid_pooling import BINS, PyramidPooling

TOPS = {"ppm": BINS, "gap": (1,), "none": ()}
"""Cells a side of the grids that the top of the pyramid adds to its features."""
LARGEST_LOG = 8.0
"""Distances end at e^8 strides: nothing overflows while a training is still wild."""


def context_top(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    """Return what turns the deepest features into the top of a pyramid.

    Args:
        kind: ``ppm``, pyramid pooling of 1, 2, 3 and 6 cells a side and a 3x3 convolution;
            ``gap``, the same with the mean of the whole map alone; ``none``, the 1x1
            convolution of any feature pyramid.
        in_channels: Of the deepest features.
        out_channels: Of the pyramid.

    Raises:
        ConfigError: There is no such top.
    """
    if kind not in TOPS:
        raise ConfigError(
            f"LPSNet: top '{kind}' of the pyramid is unknown", fix=f"one of {', '.join(TOPS)}"
        )
    if kind == "none":
        return nn.Conv2d(in_channels, out_channels, 1)
    pooling = PyramidPooling(in_channels, in_channels // len(BINS), bins=TOPS[kind], norm=False)
    return nn.Sequential(pooling, nn.Conv2d(pooling.out_channels, out_channels, 3, padding=1))


class PointBoxHead(nn.Module):
    """A box and a logit for every point, by the same convolutions on each level.

    Each level has a factor of its own on the logarithm of its distances, as in FCOS.

    Args:
        channels: Channels of the pyramid.
        levels: Pyramid levels it reads, finest first.
        strides: Pixels between the points of each.
        convs: 3x3 convolutions before the last.
    """

    def __init__(
        self, channels: int, *, levels: Sequence[str], strides: Sequence[int], convs: int = 4
    ) -> None:
        super().__init__()
        self.levels, self.strides = tuple(levels), tuple(strides)
        self.tower = nn.Sequential(*(layer for _ in range(convs) for layer in _block(channels)))
        self.predictor = nn.Conv2d(channels, 5, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(self.levels)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    def forward(self, pyramid: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return distances to left, top, right and bottom [N, P, 4] in pixels, logits [N, P]."""
        distances, logits = [], []
        for number, (level, stride) in enumerate(zip(self.levels, self.strides, strict=True)):
            found = self.predictor(self.tower(pyramid[level])).float().flatten(2).transpose(1, 2)
            logarithms = (self.scales[number] * found[..., :4]).clamp(max=LARGEST_LOG)
            distances.append(stride * logarithms.exp())
            logits.append(found[..., 4])
        return torch.cat(distances, dim=1), torch.cat(logits, dim=1)


def _block(channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return convolution, group_norm(channels), nn.ReLU(inplace=True)
