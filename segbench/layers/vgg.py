"""The convolutions of VGG-16, alone or each with BatchNorm, as encoders take them over.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015 (arXiv 1409.1556), configuration D.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and 3x3 convolutions of each stage; a pooling step follows each."""

DILATED_VGG16_STAGES = ((64, 2, 1), (128, 2, 1), (256, 3, 1), (512, 3, 1), (512, 3, 2))
"""The same with the dilation of each stage, where the last two poolings keep the stride at 8."""


def conv_relu(
    in_channels: int, out_channels: int, *, kernel: int = 3, norm: bool = False, dilation: int = 1
) -> nn.Sequential:
    """Return a convolution with bias that keeps the size, BatchNorm if asked, and ReLU."""
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation)
    ]
    if norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def convolutions(channels: Sequence[int], *, kernel: int = 3, norm: bool = False) -> nn.Sequential:
    """Return one ``conv_relu`` for each step between the widths in ``channels``."""
    steps = pairwise(channels)
    return nn.Sequential(*(conv_relu(a, b, kernel=kernel, norm=norm) for a, b in steps))


def vgg16_stages(in_channels: int = 3, *, norm: bool = False) -> nn.ModuleList:
    """Return the five stages of convolutions, without their pooling."""
    stages = nn.ModuleList()
    for width, depth in VGG16_STAGES:
        stages.append(convolutions((in_channels, *[width] * depth), norm=norm))
        in_channels = width
    return stages


def small_stages(widths: Sequence[int]) -> nn.ModuleList:
    """Return stages of two convolutions with BatchNorm, for the ``tiny`` forms."""
    pairs = zip((3, *widths[:-1]), widths, strict=True)
    return nn.ModuleList(convolutions((below, own, own), norm=True) for below, own in pairs)


def mirrored_widths(widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the widths through each stage of a decoder that mirrors ``small_stages``."""
    below = (widths[0], *widths[:-1])
    return [(own, own, up) for own, up in zip(reversed(widths), reversed(below), strict=True)]
