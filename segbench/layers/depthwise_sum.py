"""Large depthwise kernels trained beside small ones and merged into one for use.

Ding, Zhang, Han, Ding, "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in
CNNs", CVPR 2022: a convolution is linear, and so is BatchNorm with fixed statistics, so parallel
branches equal one convolution whose kernel is the sum of theirs, centred.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.errors import ConfigError


class DepthwiseSum(nn.Module):
    """Sum of depthwise convolutions, each followed by BatchNorm; keeps size and channels.

    Args:
        channels: Channels C.
        kernels: (height, width) of each branch, both odd.
        merged: Build one convolution with a bias instead, as :meth:`merge` leaves it.
    """

    def __init__(
        self, channels: int, kernels: Sequence[tuple[int, int]], *, merged: bool = False
    ) -> None:
        super().__init__()
        if any(side % 2 == 0 for kernel in kernels for side in kernel):
            raise ConfigError(f"depthwise kernels must be odd, found {list(kernels)}")
        self.channels = channels
        self.extent = (max(k[0] for k in kernels), max(k[1] for k in kernels))
        branches = () if merged else kernels
        self.branches = nn.ModuleList(
            nn.Sequential(_depthwise(channels, kernel, bias=False), nn.BatchNorm2d(channels))
            for kernel in branches
        )
        self.single = _depthwise(channels, self.extent, bias=True) if merged else None

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, C, H, W] of features [N, C, H, W]."""
        if self.single is not None:
            merged: Tensor = self.single(features)
            return merged
        first, *others = (branch(features) for branch in self.branches)
        total: Tensor = sum(others, first)
        return total

    @torch.no_grad()
    def merge(self) -> None:
        """Replace the branches by one convolution of equal outputs in evaluation mode."""
        if self.single is not None:
            return
        like = next(self.parameters())
        single = _depthwise(self.channels, self.extent, bias=True).to(like)
        kernels, biases = zip(*(self._folded(branch) for branch in self.branches), strict=True)
        single.weight.copy_(torch.stack(kernels).sum(0))
        if single.bias is not None:
            single.bias.copy_(torch.stack(biases).sum(0))
        self.single, self.branches = single, nn.ModuleList()

    def _folded(self, branch: nn.Module) -> tuple[Tensor, Tensor]:
        """Return kernel [C, 1, extent] and bias [C] of one branch with its BatchNorm."""
        conv, norm = branch.get_submodule("0"), branch.get_submodule("1")
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        height, width = (
            (whole - own) // 2 for whole, own in zip(self.extent, conv.kernel_size, strict=True)
        )
        kernel = functional.pad(conv.weight, (width, width, height, height))
        return kernel * factor[:, None, None, None], norm.bias - norm.running_mean * factor


def merge(model: nn.Module) -> int:
    """Merge every :class:`DepthwiseSum` of a model in place and return how many it has."""
    sums = [module for module in model.modules() if isinstance(module, DepthwiseSum)]
    for module in sums:
        module.merge()
    return len(sums)


def _depthwise(channels: int, kernel: tuple[int, int], *, bias: bool) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=bias)
