"""Pyramid pooling: means over grids of 1, 2, 3 and 6 cells a side, beside the features.

Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", CVPR 2017 (arXiv 1612.01105).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct, resize

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """The features and, for each grid, its means through a 1x1 convolution, concatenated.

    ``out_channels`` is ``in_channels + len(bins) * width``.

    Args:
        in_channels: Channels of the features.
        width: Channels of each grid; a quarter of ``in_channels`` (over four bins) if None.
        bins: Cells a side of each grid.
        align_corners: How the grids are resized to the features.
        norm: BatchNorm after each 1x1 convolution, or else a bias in it: a grid of one cell has
            no statistics when the batch is one image.
    """

    def __init__(
        self,
        in_channels: int,
        width: int | None = None,
        *,
        bins: Sequence[int] = BINS,
        align_corners: bool = False,
        norm: bool = True,
    ) -> None:
        super().__init__()
        width = in_channels // len(bins) if width is None else width
        self.bins, self.align_corners = tuple(bins), align_corners
        self.out_channels = in_channels + len(bins) * width
        self.project = nn.ModuleList(_project(in_channels, width, norm=norm) for _ in bins)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H, W]."""
        size = (features.shape[-2], features.shape[-1])
        levels = [
            resize(
                project(functional.adaptive_avg_pool2d(features, bins)),
                size,
                align_corners=self.align_corners,
            )
            for bins, project in zip(self.bins, self.project, strict=True)
        ]
        return torch.cat([features, *levels], dim=1)


def _project(in_channels: int, width: int, *, norm: bool) -> nn.Module:
    if norm:
        return ConvNormAct(in_channels, width, kernel=1)
    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.ReLU(inplace=True))
