"""Mix Transformer (MiT), the backbone of SegFormer and Lawin.

Xie, Wang, Yu, Anandkumar, Alvarez and Luo, "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", NeurIPS 2021 (arXiv 2105.15203). Patches overlap, there is no
position encoding (a 3x3 depthwise convolution between the layers of each MLP tells position),
and keys and values are read from a map reduced by 8, 4, 2 and 1 a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from segbench.models.backbones import Backbone, Features
from segbench.models.pretrained import load_weights

EPS = 1e-6
MLP_RATIO = 4
REDUCTIONS = (8, 4, 2, 1)
Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class MiTShape:
    """Channels, blocks and attention heads a stage; strides of the four patch embeddings."""

    widths: Four
    depths: Four
    heads: Four = (1, 2, 5, 8)
    strides: Four = (4, 2, 2, 2)


SMALL, LARGE = (32, 64, 160, 256), (64, 128, 320, 512)
SHAPES = {
    "mit_b0": MiTShape(SMALL, (2, 2, 2, 2)),
    "mit_b1": MiTShape(LARGE, (2, 2, 2, 2)),
    "mit_b2": MiTShape(LARGE, (3, 4, 6, 3)),
    "mit_b3": MiTShape(LARGE, (3, 4, 18, 3)),
    "mit_b4": MiTShape(LARGE, (3, 8, 27, 3)),
    "mit_b5": MiTShape(LARGE, (3, 6, 40, 3)),
    "mit_tiny": MiTShape((16, 32, 64, 96), (1, 1, 1, 1), (1, 2, 4, 6), strides=(2, 2, 2, 2)),
}


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values are read from a map ``reduction`` times smaller.

    Args:
        width: Channels.
        heads: Attention heads.
        reduction: Kernel and stride of the convolution before keys and values; 1 for none.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Return [N, H * W, C] of tokens [N, H * W, C]; ``size`` is (H, W)."""
        query = self._split(self.query(tokens))
        key, value = self.key_value(self.context(tokens, size)).chunk(2, dim=-1)
        read = functional.scaled_dot_product_attention(query, self._split(key), self._split(value))
        result: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return result

    def context(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the tokens that are read: [N, (H // R) * (W // R), C], at least one a side."""
        if self.reduction == 1:
            return tokens
        short = (max(0, self.reduction - side) for side in size)
        below, right = short
        features = functional.pad(_to_map(tokens, size), (0, right, 0, below))
        reduced: Tensor = self.norm(_to_tokens(self.reduce(features)))
        return reduced

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class MixFFN(nn.Module):
    """Two linear layers with a 3x3 depthwise convolution and a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * width
        self.expand = nn.Linear(width, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.shrink = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Return [N, H * W, C] of tokens [N, H * W, C]; ``size`` is (H, W)."""
        mixed = _to_tokens(self.mix(_to_map(self.expand(tokens), size)))
        result: Tensor = self.shrink(functional.gelu(mixed))
        return result


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside an identity."""

    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = ReducedAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = MixFFN(width)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Return [N, H * W, C] of tokens [N, H * W, C]; ``size`` is (H, W)."""
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), size))
        result: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens), size))
        return result


class Stage(nn.Module):
    """Overlapping patches, their norm, blocks, and a norm of the result.

    Args:
        in_channels: Channels of the map before.
        width: Channels of the stage.
        stride: Stride of the patches, which are ``2 * stride - 1`` a side (3 at least).
        heads: Attention heads.
        reduction: See :class:`ReducedAttention`.
        drop_path: Probability of leaving out each block.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        heads: int,
        reduction: int,
        drop_path: list[float],
    ) -> None:
        super().__init__()
        side = 2 * stride - 1
        self.embed = nn.Conv2d(in_channels, width, side, stride, padding=side // 2)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, reduction, p) for p in drop_path)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, width, ceil(H / stride), ceil(W / stride)]."""
        features = self.embed(features)
        size = (features.shape[-2], features.shape[-1])
        tokens = self.embed_norm(_to_tokens(features))
        for block in self.blocks:
            tokens = block(tokens, size)
        return _to_map(self.norm(tokens), size)


class MiT(Backbone):
    """Four stages; strides 4, 8, 16 and 32 in the published sizes.

    Args:
        shape: Widths, depths, heads, strides.
        drop_path: Probability at which the last block is left out in training; it rises from 0
            at the first.
    """

    def __init__(self, shape: MiTShape, *, drop_path: float = 0.0) -> None:
        super().__init__()
        total = sum(shape.depths)
        rates = iter(drop_path * index / (total - 1) for index in range(total))
        self.stages = nn.ModuleList()
        self.channels = {}
        in_channels, stride = 3, 1
        for index, width in enumerate(shape.widths):
            stride *= shape.strides[index]
            stage = Stage(
                in_channels,
                width,
                stride=shape.strides[index],
                heads=shape.heads[index],
                reduction=REDUCTIONS[index],
                drop_path=[next(rates) for _ in range(shape.depths[index])],
            )
            self.stages.append(stage)
            self.channels[f"stride{stride}"] = in_channels = width
        self.apply(initialise)

    def forward(self, images: Tensor) -> Features:
        """Return features by stride; a map of stride s has ``ceil(H / s)`` rows."""
        features, maps = images, {}
        for name, stage in zip(self.channels, self.stages, strict=True):
            maps[name] = features = stage(features)
        return maps


def create_mit(name: str, *, weights: str = "none", drop_path: float = 0.0) -> MiT:
    """Return ``mit_b0`` to ``mit_b5`` or ``mit_tiny``; weights are ``none`` or a file."""
    mit = MiT(SHAPES[name], drop_path=drop_path)
    load_weights(mit, weights)
    return mit


def initialise(module: nn.Module) -> None:
    """Draw linear weights with deviation 0.02, those of convolutions by their fan-out."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)


def _to_tokens(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)
