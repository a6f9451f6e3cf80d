"""Atrous spatial pyramid pooling, as DeepLab v3 and v3+ use it.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation",
arXiv 1706.05587, with separable convolutions as in v3+ (ECCV 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segbench.layers.conv import ConvNormAct, SeparableConvNormAct


class ImagePooling(nn.Module):
    """The mean of the whole map through a 1x1 convolution, at every position."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = ConvNormAct(in_channels, out_channels, kernel=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H, W]."""
        pooled: Tensor = self.project(features.mean((2, 3), keepdim=True))
        return pooled.expand(-1, -1, *features.shape[-2:])


class ASPP(nn.Module):
    """1x1, dilated 3x3 and image-pooled features side by side, then projected and dropped out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        *,
        dilations: Sequence[int],
        separable: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        convolution = SeparableConvNormAct if separable else ConvNormAct
        self.branches = nn.ModuleList([ConvNormAct(in_channels, out_channels, kernel=1)])
        for dilation in dilations:
            self.branches.append(convolution(in_channels, out_channels, dilation=dilation))
        self.branches.append(ImagePooling(in_channels, out_channels))
        self.project = nn.Sequential(
            ConvNormAct(len(self.branches) * out_channels, out_channels, kernel=1),
            nn.Dropout(dropout),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H, W] at the size of ``features``."""
        parallel = torch.cat([branch(features) for branch in self.branches], dim=1)
        projected: Tensor = self.project(parallel)
        return projected
