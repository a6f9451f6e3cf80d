"""Mask2Former's transformer decoder: queries that attend within the masks they predict.

Cheng et al., CVPR 2022, section 3.2.1. Axes: N images, Q queries, C channels, K classes, the
last of them "no object", S places of a map, M heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import resize
from segbench.layers.positions import sine_positions


@dataclass(frozen=True)
class MaskPrediction:
    """What the queries say at one depth of the decoder."""

    classes: Tensor
    """Logits [N, Q, K], the last of no object."""
    masks: Tensor
    """Logits [N, Q, H, W] at the stride of the mask features."""


class QueryDecoder(nn.Module):
    """Learned queries through layers that read the maps in turn, coarsest first.

    A prediction is made of the learned queries and after every layer. Each tells the next
    layer where its queries may look: where their masks are more likely than not; a query whose
    mask is empty looks everywhere.

    Args:
        num_classes: Classes without "no object".
        width: C.
        queries: Q.
        layers: Layers, ``levels`` a round.
        heads: M.
        feedforward: Hidden channels of a layer.
        levels: Maps that are read.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        *,
        queries: int,
        layers: int,
        heads: int,
        feedforward: int,
        levels: int = 3,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Embedding(queries, width)
        self.query_positions = nn.Embedding(queries, width)
        self.level_positions = nn.Embedding(levels, width)
        self.layers = nn.ModuleList(
            QueryLayer(width, heads=heads, feedforward=feedforward) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes + 1)
        self.mask_embedding = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
        )

    def forward(self, mask_features: Tensor, levels: Sequence[Tensor]) -> list[MaskPrediction]:
        """Return the predictions in order, one more than there are layers.

        Args:
            mask_features: [N, C, H, W].
            levels: Maps [N, C, h, w], coarsest first.
        """
        tokens = [
            (level.flatten(2) + one[:, None]).transpose(1, 2)
            for level, one in zip(levels, self.level_positions.weight, strict=True)
        ]
        positions = [
            sine_positions(level.shape[-2], level.shape[-1], level.shape[1], device=level.device)
            for level in levels
        ]
        queries = self.queries.weight.repeat(len(mask_features), 1, 1)
        predictions = [self._predict(queries, mask_features)]
        for number, layer in enumerate(self.layers):
            turn = number % len(levels)
            hidden = self._hidden(predictions[-1], levels[turn])
            keys = tokens[turn] + positions[turn].flatten(1).T
            queries = layer(queries, self.query_positions.weight, keys, tokens[turn], hidden)
            predictions.append(self._predict(queries, mask_features))
        return predictions

    def _predict(self, queries: Tensor, mask_features: Tensor) -> MaskPrediction:
        queries = self.norm(queries)
        masks = torch.einsum("nqc,nchw->nqhw", self.mask_embedding(queries), mask_features)
        return MaskPrediction(self.classifier(queries), masks)

    @torch.no_grad()
    def _hidden(self, prediction: MaskPrediction, level: Tensor) -> Tensor:
        """Return bool [N M, Q, S]: the places of a map that a query may not look at."""
        masks = resize(prediction.masks.detach(), (level.shape[-2], level.shape[-1]))
        hidden = masks.flatten(2) < 0
        hidden = hidden & ~hidden.all(dim=-1, keepdim=True)
        return hidden.repeat_interleave(self.heads, dim=0)


class QueryLayer(nn.Module):
    """Masked attention to a map, attention among queries, two linear layers; norms after each."""

    def __init__(self, width: int, *, heads: int, feedforward: int) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.self_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.reduce = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, queries: Tensor, positions: Tensor, keys: Tensor, values: Tensor, hidden: Tensor
    ) -> Tensor:
        """Return queries [N, Q, C].

        Args:
            queries: [N, Q, C].
            positions: [Q, C], added to the queries where they are compared.
            keys: [N, S, C], the map with its positions.
            values: [N, S, C], the map.
            hidden: bool [N M, Q, S], where a query may not look.
        """
        seen, _ = self.cross_attention(
            queries + positions, keys, values, attn_mask=hidden, need_weights=False
        )
        queries = self.cross_norm(queries + seen)
        placed = queries + positions
        shared, _ = self.self_attention(placed, placed, queries, need_weights=False)
        queries = self.self_norm(queries + shared)
        mixed: Tensor = self.norm(queries + self.reduce(functional.relu(self.expand(queries))))
        return mixed
