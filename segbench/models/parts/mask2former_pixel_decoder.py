"""Mask2Former's pixel decoder: maps of three strides that attend to each other, and a finer one.

Cheng, Misra, Schwing, Kirillov and Girdhar, CVPR 2022 (arXiv 2112.01527), section 3.2.2 and
appendix. Axes: N images, C channels, S places of the three maps one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import resize
from segbench.layers.deformable_attention import DeformableAttention, Sizes
from segbench.layers.positions import sine_positions

GROUPS = 32


class PixelDecoder(nn.Module):
    """Deformable self-attention over all maps but the finest, which a pyramid's step adds.

    Args:
        channels: Channels of the backbone's maps, finest first.
        width: Channels C of everything here.
        layers: Layers of deformable attention.
        heads: Heads of each.
        feedforward: Hidden channels of each.
    """

    def __init__(
        self, channels: Sequence[int], width: int, *, layers: int, heads: int, feedforward: int
    ) -> None:
        super().__init__()
        finest, *coarser = channels
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), nn.GroupNorm(GROUPS, width))
            for c in reversed(coarser)
        )
        self.level_positions = nn.Parameter(torch.randn(len(coarser), width))
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads=heads, levels=len(coarser), feedforward=feedforward)
            for _ in range(layers)
        )
        self.lateral = nn.Sequential(
            nn.Conv2d(finest, width, 1, bias=False), nn.GroupNorm(GROUPS, width)
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(inplace=True),
        )
        self.mask_features = nn.Conv2d(width, width, 1)
        for module in (*self.projections.modules(), *self.lateral, *self.smooth):
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return mask features at the finest stride, and the other maps, coarsest first.

        Args:
            maps: The backbone's, finest first; all of the result have C channels.
        """
        finest, *coarser = maps
        levels = [
            project(features)
            for project, features in zip(self.projections, reversed(coarser), strict=True)
        ]
        levels = self._attend(levels)
        lateral = self.lateral(finest)
        merged = lateral + resize(levels[-1], (lateral.shape[-2], lateral.shape[-1]))
        return self.mask_features(self.smooth(merged)), levels

    def _attend(self, levels: list[Tensor]) -> list[Tensor]:
        sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
        tokens = torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)
        device, width = tokens.device, tokens.shape[-1]
        positions = torch.cat(
            [
                sine_positions(*size, width, device=device).flatten(1).T + one
                for size, one in zip(sizes, self.level_positions, strict=True)
            ]
        )
        places = torch.cat([_centres(*size, device=device) for size in sizes])
        for layer in self.layers:
            tokens = layer(tokens, positions, places, sizes)
        parts = torch.split(tokens.transpose(1, 2), [h * w for h, w in sizes], dim=2)
        return [
            part.reshape(*part.shape[:2], *size) for part, size in zip(parts, sizes, strict=True)
        ]


class EncoderLayer(nn.Module):
    """Deformable self-attention and two linear layers, each added and normalised."""

    def __init__(self, width: int, *, heads: int, levels: int, feedforward: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads=heads, levels=levels)
        self.attention_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.reduce = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width)
        for layer in (self.expand, self.reduce):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, tokens: Tensor, positions: Tensor, places: Tensor, sizes: Sizes) -> Tensor:
        """Return tokens [N, S, C]; ``positions`` [S, C], ``places`` [S, 2] as (x, y)."""
        attended = self.attention(tokens + positions, places, tokens, sizes)
        tokens = self.attention_norm(tokens + attended)
        mixed: Tensor = self.norm(tokens + self.reduce(functional.relu(self.expand(tokens))))
        return mixed


def _centres(height: int, width: int, *, device: torch.device) -> Tensor:
    """Return [H W, 2]: (x, y) of the centres of a map's positions, in [0, 1]."""
    rows = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)
