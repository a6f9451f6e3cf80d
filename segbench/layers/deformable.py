"""Deformable convolution and the semantic head that UPSNet and LPSNet make of it.

Dai, Qi, Xiong, Li, Zhang, Hu, Wei, "Deformable Convolutional Networks", ICCV 2017; Xiong et al.,
"UPSNet: A Unified Panoptic Segmentation Network", CVPR 2019, section 3.2.
Axes: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DeformConv2d, deform_conv2d

from segbench.core.errors import ConfigError
from segbench.layers.conv import group_norm, resize

KERNEL = 3
POINTS = KERNEL * KERNEL
NORMS = ("group", "batch", "none")


class DeformableConv(DeformConv2d):  # type: ignore[misc]
    """3x3 convolution of stride 1 whose nine samples move by offsets it reads off its input.

    The offsets start at zero, so that a new layer is an ordinary 3x3 convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bias: Add a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, KERNEL, padding=KERNEL // 2, bias=bias)
        self.offsets = nn.Conv2d(in_channels, 2 * POINTS, KERNEL, padding=KERNEL // 2)
        for start in self.offsets.parameters():
            nn.init.zeros_(start)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H, W] of [N, in_channels, H, W].

        Places are found and read in float32 whatever the precision of the features: they need
        more than the eight bits of bfloat16.
        """
        offsets = self.offsets(features)
        exact = torch.promote_types(features.dtype, torch.float32)
        weight = self.weight.to(exact)
        bias = None if self.bias is None else self.bias.to(exact)
        convolved = deformed(features.to(exact), offsets.to(exact), weight, bias)
        return convolved.to(offsets.dtype)


def deformed(
    features: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Return a 3x3 convolution whose samples are moved; zero outside of the features.

    torchvision's on a GPU; elsewhere samples by ``grid_sample`` and one matrix product, which
    gives the same and on one CPU core learns eight times as fast (``benchmarks``).

    Args:
        features: [N, C, H, W].
        offsets: [N, 18, H, W], (y, x) in pixels of each of nine points, row by row.
        weight: [D, C, 3, 3].
        bias: [D].

    Returns:
        [N, D, H, W].
    """
    if features.is_cuda:
        result: Tensor = deform_conv2d(features, offsets, weight, bias, padding=KERNEL // 2)
        return result
    batch, _, height, width = features.shape
    samples = functional.grid_sample(features, _places(offsets), align_corners=False)
    columns = samples.reshape(batch, -1, height * width)
    convolved = (weight.flatten(1) @ columns).view(batch, -1, height, width)
    return convolved if bias is None else convolved + bias.view(-1, 1, 1)


def _places(offsets: Tensor) -> Tensor:
    """Return the (x, y) that ``grid_sample`` reads, [N, 9 H, W, 2], of offsets [N, 18, H, W]."""
    batch, _, height, width = offsets.shape
    moved = offsets.view(batch, POINTS, 2, height, width)
    reach = torch.arange(KERNEL, device=offsets.device, dtype=offsets.dtype) - KERNEL // 2
    rows = torch.arange(height, device=offsets.device, dtype=offsets.dtype)
    columns = torch.arange(width, device=offsets.device, dtype=offsets.dtype)
    y = moved[:, :, 0] + reach.repeat_interleave(KERNEL).view(-1, 1, 1) + rows.view(-1, 1)
    x = moved[:, :, 1] + reach.repeat(KERNEL).view(-1, 1, 1) + columns
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    return grid.flatten(1, 2)


def deformable_block(in_channels: int, out_channels: int, *, norm: str = "group") -> nn.Sequential:
    """Return deformable convolution, norm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; a multiple of 32 or, below, of 8 with ``group``.
        norm: ``group`` (32 groups, of fewer than 64 channels 8), ``batch`` or ``none``; only
            without a norm the convolution has a bias.

    Raises:
        ConfigError: There is no such norm.
    """
    convolution = DeformableConv(in_channels, out_channels, bias=norm == "none")
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if norm == "none":
        return nn.Sequential(convolution, nn.ReLU(inplace=True))
    return nn.Sequential(convolution, _norm(norm, out_channels), nn.ReLU(inplace=True))


class DeformableSemanticHead(nn.Module):
    """Deformable convolutions on each level, all enlarged to the finest, one classifier.

    Args:
        in_channels: Channels of the pyramid.
        num_classes: Semantic channels S of the result.
        widths: Channels after each deformable convolution of a level.
        levels: Names of the pyramid levels it reads, finest first.
        shared: One stack of convolutions for all levels (UPSNet), not one for each (LPSNet).
        norm: See ``deformable_block``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        widths: Sequence[int] = (128, 128),
        levels: Sequence[str] = ("0", "1", "2", "3"),
        shared: bool = False,
        norm: str = "group",
    ) -> None:
        super().__init__()
        self.levels, self.shared = tuple(levels), shared
        stacks = 1 if shared else len(self.levels)
        self.stacks = nn.ModuleList(_stack(in_channels, widths, norm) for _ in range(stacks))
        self.predictor = nn.Conv2d(len(self.levels) * widths[-1], num_classes, 1)

    def forward(self, pyramid: Mapping[str, Tensor]) -> Tensor:
        """Return logits [N, S, H, W] at the size of the finest level."""
        logits: Tensor = self.predictor(self.features(pyramid))
        return logits

    def features(self, pyramid: Mapping[str, Tensor]) -> Tensor:
        """Return what is classified, [N, len(levels) * widths[-1], H, W]."""
        finest = pyramid[self.levels[0]]
        size = (finest.shape[-2], finest.shape[-1])
        stacks = [*self.stacks] * len(self.levels) if self.shared else [*self.stacks]
        maps = zip(stacks, self.levels, strict=True)
        return torch.cat([resize(stack(pyramid[level]), size) for stack, level in maps], dim=1)


def _stack(in_channels: int, widths: Sequence[int], norm: str) -> nn.Sequential:
    channels = [in_channels, *widths]
    return nn.Sequential(
        *(deformable_block(before, after, norm=norm) for before, after in pairwise(channels))
    )


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return group_norm(channels)
    raise ConfigError(
        f"norm '{norm}' of a deformable convolution is unknown", fix=f"one of {', '.join(NORMS)}"
    )
