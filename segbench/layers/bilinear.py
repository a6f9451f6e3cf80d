"""Transposed convolutions that interpolate, and fully connected layers as convolutions.

Both are from Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def bilinear_kernel(size: int) -> Tensor:
    """Return the [size, size] tent that interpolates when a map grows by ``(size + 1) // 2``.

    Each of its ``factor x factor`` phases sums to 1, so a constant map stays constant.
    """
    factor = (size + 1) // 2
    centre = factor - 1.0 if size % 2 else factor - 0.5
    tent = 1 - (torch.arange(size) - centre).abs() / factor
    return tent[:, None] * tent[None, :]


def bilinear_upsampling(
    channels: int, *, factor: int, learned: bool = False, grouped: bool = False
) -> nn.Module:
    """Return a transposed convolution of kernel ``2 * factor`` that interpolates bilinearly.

    The kernel is full, ``channels x channels``, and zero off the diagonal, as in the
    released FCN definitions, or ``grouped``, one kernel a channel, as in Dilation10's; it has no
    bias. It stays fixed unless ``learned``.
    """
    size, groups = 2 * factor, channels if grouped else 1
    layer = nn.ConvTranspose2d(channels, channels, size, factor, groups=groups, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        channel = torch.arange(channels)
        layer.weight[channel, 0 if grouped else channel] = bilinear_kernel(size)
    return layer.requires_grad_(learned)


def linear_as_convolution(linear: nn.Linear, *, kernel: int = 1) -> nn.Conv2d:
    """Return the valid ``kernel x kernel`` convolution that equals ``linear`` on one window.

    ``linear`` must read flattened [C, kernel, kernel] features.
    """
    channels = linear.in_features // kernel**2
    convolution = nn.Conv2d(channels, linear.out_features, kernel, bias=linear.bias is not None)
    with torch.no_grad():
        convolution.weight.copy_(linear.weight.view_as(convolution.weight))
        if linear.bias is not None and convolution.bias is not None:
            convolution.bias.copy_(linear.bias)
    return convolution
