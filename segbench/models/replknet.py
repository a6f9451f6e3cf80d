"""RepLKNet: depthwise kernels of up to 31x31 beside 5x5 ones, with UPerNet's head.

Ding, Zhang, Han, Ding, "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in
CNNs", CVPR 2022 (arXiv 2203.06717). At 150 classes, auxiliary head counted: 31B 113,371,820,
31L 209,892,716 parameters with both branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from segbench.layers.depthwise_sum import DepthwiseSum, merge
from segbench.models.backbones import Backbone, Features
from segbench.models.pretrained import load_weights
from segbench.models.registry import register_model
from segbench.models.upernet import UPerNet

PAPER = "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in CNNs"
YEAR = 2022
TASK = "semantic"
MIN_BATCH = 2

DEPTHS = (2, 2, 18, 2)
KERNELS = (31, 29, 27, 13)
SMALL_KERNEL = 5
WIDTHS = {"31b": (128, 256, 512, 1024), "31l": (192, 384, 768, 1536)}
FFN_RATIO = 4


class RepLKNet(Backbone):
    """Stem, four stages and three steps down.

    Args:
        widths: Channels of the stages.
        depths: Pairs of a large-kernel and a feed-forward block of the stages.
        kernels: Sides of their large kernels.
        drop_path: Probability at which the last pair is left out in training; it rises from 0
            at the first.
        merged: Build one convolution in place of the parallel ones.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        depths: Sequence[int] = DEPTHS,
        kernels: Sequence[int] = KERNELS,
        drop_path: float = 0.0,
        merged: bool = False,
    ) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            conv_norm(3, first, 3, stride=2, act=True),
            conv_norm(first, first, 3, groups=first, act=True),
            conv_norm(first, first, 1, act=True),
            conv_norm(first, first, 3, stride=2, groups=first, act=True),
        )
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.stages = nn.ModuleList()
        for width, depth, kernel in zip(widths, depths, kernels, strict=True):
            blocks = [Pair(width, kernel, rate, merged=merged) for rate in rates[:depth]]
            self.stages.append(nn.Sequential(*blocks))
            rates = rates[depth:]
        self.downs = nn.ModuleList(
            nn.Sequential(
                conv_norm(here, there, 1, act=True),
                conv_norm(there, there, 3, stride=2, groups=there, act=True),
            )
            for here, there in pairwise(widths)
        )
        self.channels = {f"stride{4 << stage}": width for stage, width in enumerate(widths)}

    def forward(self, images: Tensor) -> Features:
        """Return features at strides 4, 8, 16 and 32 of images [N, 3, H, W]."""
        features = self.stem(images)
        maps: Features = {}
        for stage, (name, blocks) in enumerate(zip(self.channels, self.stages, strict=True)):
            features = blocks(features if stage == 0 else self.downs[stage - 1](features))
            maps[name] = features
        return maps

    def merge(self) -> None:
        """Replace parallel convolutions by one each; outputs in evaluation mode stay equal."""
        merge(self)


class Pair(nn.Module):
    """A large-kernel block and a feed-forward block, each added to its input.

    Args:
        width: Channels.
        kernel: Side of the large kernel.
        drop_path: Probability of leaving a block out in training.
        merged: Build the large kernel without its small one.
    """

    def __init__(self, width: int, kernel: int, drop_path: float, *, merged: bool) -> None:
        super().__init__()
        sides = ((kernel, kernel), (SMALL_KERNEL, SMALL_KERNEL))
        self.spatial = nn.Sequential(
            nn.BatchNorm2d(width),
            conv_norm(width, width, 1, act=True),
            DepthwiseSum(width, sides, merged=merged),
            nn.ReLU(),
            conv_norm(width, width, 1),
        )
        self.channel = nn.Sequential(
            nn.BatchNorm2d(width),
            conv_norm(width, FFN_RATIO * width, 1),
            nn.GELU(),
            conv_norm(FFN_RATIO * width, width, 1),
        )
        self.drop = StochasticDepth(drop_path, "row")

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, C, H, W] of [N, C, H, W]."""
        features = features + self.drop(self.spatial(features))
        mixed: Tensor = features + self.drop(self.channel(features))
        return mixed


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: bool = False,
) -> nn.Sequential:
    """Return a convolution without bias, BatchNorm and, with ``act``, ReLU."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([nn.ReLU()] if act else []))


def _upernet(
    num_classes: int,
    size: str,
    *,
    drop_path: float,
    backbone_weights: str = "none",
    merged: bool = False,
) -> UPerNet:
    backbone = RepLKNet(WIDTHS[size], drop_path=drop_path, merged=merged)
    load_weights(backbone, backbone_weights)
    return UPerNet(num_classes, backbone=backbone)


@register_model(
    "upernet_replknet31b", display_name="UPerNet (RepLKNet-31B)", backbone="replknet31b"
)
def upernet_replknet31b(num_classes: int, *, drop_path: float = 0.5, **options: Any) -> UPerNet:
    """Return UPerNet on RepLKNet-31B: 113,371,820 parameters at 150 classes."""
    return _upernet(num_classes, "31b", drop_path=drop_path, **options)


@register_model(
    "upernet_replknet31l", display_name="UPerNet (RepLKNet-31L)", backbone="replknet31l"
)
def upernet_replknet31l(num_classes: int, *, drop_path: float = 0.3, **options: Any) -> UPerNet:
    """Return UPerNet on RepLKNet-31L: 209,892,716 parameters at 150 classes."""
    return _upernet(num_classes, "31l", drop_path=drop_path, **options)


@register_model(
    "upernet_replknet_tiny",
    display_name="UPerNet (RepLKNet, tiny)",
    backbone="replknet",
    size="tiny",
)
def upernet_replknet_tiny(num_classes: int, *, width: int = 48, merged: bool = False) -> UPerNet:
    """Return a small UPerNet on a small RepLKNet for a CPU."""
    backbone = RepLKNet(
        (16, 32, 48, 64), depths=(1, 1, 1, 1), kernels=(13, 11, 9, 7), merged=merged
    )
    return UPerNet(num_classes, backbone=backbone, width=width, aux_width=width, dropout=0.0)
