"""Deformable convolution v3: modulated sampling by groups, with weights shared as projections.

Wang, Dai, Chen, Huang, Li, Zhu, Hu, Lu, Lu, Li, Wang, Qiao, "InternImage: Exploring
Large-Scale Vision Foundation Models with Deformable Convolutions", CVPR 2023, section 3.1.
Tensors have their channels last. The K points of a kernel are numbered column by column, as in
the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.errors import ConfigError

MACS_PER_SAMPLE = 5
"""Multiply-adds of one sample of one channel as the authors count them: four neighbours and
the modulation."""


class DCNv3(nn.Module):
    """Deformable convolution v3 of stride 1 that keeps the size of its input.

    Offsets and modulation come from a depthwise convolution of the input; both start at zero,
    so that a new layer averages its kernel.

    Args:
        channels: Channels C of the input and of the output.
        groups: Groups G with offsets and modulation of their own; C is a multiple of G.
        kernel: Side of the square of K points.
        depthwise_kernel: Side of the depthwise convolution.
        offset_scale: Factor of the regular grid and of the offsets.
        center_scale: Blend each group with its unsampled features by a learned share.

    Raises:
        ConfigError: C is no multiple of G, or a side is even.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        kernel: int = 3,
        depthwise_kernel: int = 3,
        offset_scale: float = 1.0,
        center_scale: bool = False,
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ConfigError(f"DCNv3: {channels} channels cannot be split into {groups} groups")
        if kernel % 2 == 0 or depthwise_kernel % 2 == 0:
            raise ConfigError(f"DCNv3: kernels must be odd, found {kernel}, {depthwise_kernel}")
        self.groups, self.points, self.offset_scale = groups, kernel * kernel, offset_scale
        self.depthwise = nn.Conv2d(
            channels, channels, depthwise_kernel, padding=depthwise_kernel // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.offsets = nn.Linear(channels, groups * self.points * 2)
        self.modulation = nn.Linear(channels, groups * self.points)
        self.input_projection = nn.Linear(channels, channels)
        self.output_projection = nn.Linear(channels, channels)
        self.center = nn.Linear(channels, groups) if center_scale else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from an average: no offsets, equal modulation, Xavier projections."""
        for layer in (self.offsets, self.modulation, self.center):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in (self.input_projection, self.output_projection):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, H, W, C] of features [N, H, W, C]."""
        values = self.input_projection(features)
        local = self.depthwise(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        local = functional.gelu(self.norm(local))
        offsets = self.offsets(local).unflatten(-1, (self.groups, self.points, 2))
        modulation = self.modulation(local).unflatten(-1, (self.groups, self.points))
        sampled = sample_points(values, offsets, modulation.softmax(-1), scale=self.offset_scale)
        if self.center is not None:
            share = (
                self.center(local)
                .sigmoid()
                .repeat_interleave(values.shape[-1] // self.groups, dim=-1)
            )
            sampled = torch.lerp(sampled, values, share)
        projected: Tensor = self.output_projection(sampled)
        return projected

    def uncounted_macs(self, output: Tensor) -> int:
        """Return the multiply-adds of sampling, which no counter of operations sees."""
        return MACS_PER_SAMPLE * self.points * output.numel()


def sample_points(
    values: Tensor, offsets: Tensor, modulation: Tensor, *, scale: float = 1.0
) -> Tensor:
    """Return the modulated sum of ``values`` at K points around every place.

    Args:
        values: [N, H, W, C]; zero outside.
        offsets: [N, H, W, G, K, 2], (x, y) in pixels, added to the regular grid.
        modulation: [N, H, W, G, K], weight of each point.
        scale: Factor of the regular grid and of the offsets.

    Returns:
        [N, H, W, C]; group g of G reads and writes channels g C / G to (g + 1) C / G.
    """
    batch, height, width, channels = values.shape
    groups, points = modulation.shape[-2:]
    exact = torch.promote_types(offsets.dtype, torch.float32)
    places = _regular_grid(height, width, points, scale, exact, values.device)
    places = places + scale * offsets.to(exact)
    size = torch.tensor([width, height], dtype=exact, device=values.device)
    grid = (2 * places + 1) / size - 1
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(batch * groups, height * width, points, 2)
    maps = values.permute(0, 3, 1, 2).reshape(batch * groups, channels // groups, height, width)
    samples = functional.grid_sample(maps.to(exact), grid, align_corners=False)
    weights = modulation.permute(0, 3, 1, 2, 4).reshape(batch * groups, 1, -1, points)
    summed = (samples * weights).sum(-1).to(values.dtype)
    return summed.reshape(batch, channels, height, width).permute(0, 2, 3, 1)


def _regular_grid(
    height: int, width: int, points: int, scale: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return [H, W, 1, K, 2]: (x, y) in pixels of the undeformed points of every place."""
    side = round(points**0.5)
    reach = scale * (torch.arange(side, dtype=dtype, device=device) - side // 2)
    kernel = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), -1).reshape(points, 2)
    rows = torch.arange(height, dtype=dtype, device=device)
    columns = torch.arange(width, dtype=dtype, device=device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), -1)[:, :, None, None] + kernel
