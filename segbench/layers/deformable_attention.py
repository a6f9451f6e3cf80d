"""Attention to a few learned points of several maps: multi-scale deformable attention.

Zhu, Su, Lu, Li, Wang and Dai, "Deformable DETR: Deformable Transformers for End-to-End Object
Detection", ICLR 2021 (arXiv 2010.04159), section 4.1. Axes: N images, Q queries, S places of
all maps one after the other, C channels, M heads, L maps, K points of a head on a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.errors import ConfigError

MACS_PER_SAMPLE = 5
"""Multiply-adds of one sample of one channel: four neighbours and the weight."""
Sizes = Sequence[tuple[int, int]]


class DeformableAttention(nn.Module):
    """Each head reads K points of each of L maps, where and how much its query says.

    A new layer looks from its place in M directions, 1 to K positions away, and averages.

    Args:
        channels: Channels C of queries and maps.
        heads: M; C is a multiple of it.
        levels: L.
        points: K.

    Raises:
        ConfigError: C is no multiple of M.
    """

    def __init__(self, channels: int, *, heads: int = 8, levels: int = 3, points: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ConfigError(
                f"deformable attention: {channels} channels cannot be split into {heads} heads"
            )
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(channels, heads * levels * points * 2)
        self.weights = nn.Linear(channels, heads * levels * points)
        self.values = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from one direction a head, equal weights and Xavier projections."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.values, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.offsets.bias.copy_(_directions(self.heads, self.levels, self.points).flatten())

    def forward(self, queries: Tensor, places: Tensor, features: Tensor, sizes: Sizes) -> Tensor:
        """Return [N, Q, C].

        Args:
            queries: [N, Q, C], what the points and their weights are told from.
            places: [Q, 2], (x, y) of each query in [0, 1] over every map.
            features: [N, S, C].
            sizes: Height and width of each map; S is the sum of their products.
        """
        shape = (self.heads, self.levels, self.points)
        exact = torch.promote_types(queries.dtype, torch.float32)
        offsets = self.offsets(queries).unflatten(-1, (*shape, 2)).to(exact)
        weights = self.weights(queries).unflatten(-1, (self.heads, -1)).to(exact).softmax(-1)
        extent = torch.tensor([[w, h] for h, w in sizes], dtype=exact, device=queries.device)
        points = places[:, None, None, None] + offsets / extent[:, None]
        values = self.values(features).unflatten(-1, (self.heads, -1))
        sampled = sample_levels(values, sizes, points, weights.unflatten(-1, shape[1:]))
        attended: Tensor = self.output(sampled.to(values.dtype))
        return attended

    def uncounted_macs(self, output: Tensor) -> int:
        """Return the multiply-adds of sampling, which no counter of operations sees."""
        return MACS_PER_SAMPLE * self.levels * self.points * output.numel()


def sample_levels(values: Tensor, sizes: Sizes, points: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum [N, Q, C] of ``values`` at points of several maps.

    Between positions it is interpolated bilinearly; outside of a map is 0.

    Args:
        values: [N, S, M, C / M], the maps one after the other, each row by row.
        sizes: Height and width of each map.
        points: [N, Q, M, L, K, 2], (x, y) in [0, 1] over the map.
        weights: [N, Q, M, L, K].
    """
    batch, queries, heads = points.shape[:3]
    maps = torch.split(values, [height * width for height, width in sizes], dim=1)
    grid = (2 * points - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    shares = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)
    total = points.new_zeros((batch * heads, values.shape[-1], queries))
    for level, (height, width) in enumerate(sizes):
        image = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        samples = functional.grid_sample(image.to(grid), grid[level], align_corners=False)
        total = total + (samples * shares[level][:, None]).sum(-1)
    return total.reshape(batch, -1, queries).transpose(1, 2)


def _directions(heads: int, levels: int, points: int) -> Tensor:
    """Return offsets [M, L, K, 2]: point k of a head lies k + 1 positions in its direction."""
    angles = 2 * math.pi * torch.arange(heads, dtype=torch.float32) / heads
    rays = torch.stack([angles.cos(), angles.sin()], dim=-1)
    rays = rays / rays.abs().amax(dim=-1, keepdim=True)
    steps = torch.arange(1, points + 1, dtype=torch.float32)
    return (rays[:, None, None] * steps[:, None]).expand(-1, levels, -1, -1)
