"""Lawin Transformer: a pyramid of large-window attentions on a Mix Transformer.

Yan, Zhang, Wu and Wang, "Lawin Transformer: Improving Semantic Segmentation Transformer with
Multi-Scale Representations via Large Window Attention", 2022 (arXiv 2201.01615). Each 8x8 window
of queries reads a context R times its side (R is 8, 4 and 2), pooled back to 8x8 cells; a matrix
a head mixes the cells' positions first. Counts follow the authors' head (512 channels, 768 in the
linear layers): 30,253,190 (MiT-B2), 50,129,030 (B3) and 87,499,910 (B5) parameters at 150
classes.

The context is computed once for all windows. A window's cells start at ``8 i - 4 (R - 1) + R k``,
which are whole multiples of R apart from one window to the next, so the padded map is pooled
first and windows are taken from the small map: the same numbers as pooling each window, from
R * R times fewer values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct, resize
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.mix_transformer import MiT, create_mit
from segbench.models.registry import register_model

PAPER = (
    "Lawin Transformer: Improving Semantic Segmentation Transformer with Multi-Scale "
    "Representations via Large Window Attention"
)
YEAR = 2022
TASK = "semantic"
MIN_BATCH = 2

SIDE = 8
"""Cells a side of a window and of its pooled context."""
RATIOS = (8, 4, 2)
LOW_LEVEL = 48
DROPOUT = 0.1


def to_windows(features: Tensor, stride: int = SIDE) -> Tensor:
    """Return the 8x8 windows [N * windows, C, 64] of [N, C, H, W], row by row."""
    channels = features.shape[1]
    patches = functional.unfold(features, SIDE, stride=stride)
    return patches.transpose(1, 2).reshape(-1, channels, SIDE * SIDE)


def from_windows(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Return [N, C, H, W] of windows side by side; the inverse of :func:`to_windows`."""
    height, width = size
    count = (height // SIDE) * (width // SIDE)
    columns = windows.reshape(-1, count, windows.shape[1] * SIDE * SIDE).transpose(1, 2)
    return functional.fold(columns, size, SIDE, stride=SIDE)


class PooledContext(nn.Module):
    """For each window, the features around it, ``ratio`` times its side, pooled to 8x8 cells.

    A cell is the mean of maximum and average, normalised over its channels; outside of the map
    features are 0.

    Args:
        channels: Channels of the features.
        ratio: Side of the context over that of the window; even.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N * windows, C, 64] of [N, C, H, W], whose sides are multiples of 8."""
        margin = SIDE * (self.ratio - 1) // 2
        padded = functional.pad(features, (margin,) * 4)
        cells = functional.max_pool2d(padded, self.ratio)
        cells = (cells + functional.avg_pool2d(padded, self.ratio)) / 2
        cells = self.norm(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return to_windows(cells, SIDE // self.ratio)


class PositionMixing(nn.Module):
    """One matrix a head over the 64 positions of a window, beside an identity."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        positions = SIDE * SIDE
        bound = 1 / math.sqrt(positions)
        self.weight = nn.Parameter(torch.empty(heads, positions, positions).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, positions).uniform_(-bound, bound))

    def forward(self, windows: Tensor) -> Tensor:
        """Return [B, C, 64] of [B, C, 64]; the channels are split among the heads in order."""
        split = windows.reshape(len(windows), len(self.weight), -1, SIDE * SIDE)
        mixed = torch.einsum("bhcp,hqp->bhcq", split, self.weight) + self.bias
        return windows + mixed.flatten(1, 2)


class LargeWindowAttention(nn.Module):
    """Each window's queries attend to its pooled context with ``ratio ** 2`` heads.

    Args:
        channels: Channels of the features; half of them are those of the attention.
        ratio: Side of the context over that of the window.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        inner = channels // 2
        self.heads = ratio**2
        self.context = PooledContext(channels, ratio)
        self.mixing = PositionMixing(self.heads)
        self.query = nn.Conv1d(channels, inner, 1)
        self.key = nn.Conv1d(channels, inner, 1)
        self.value = nn.Conv1d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, C, H, W] of [N, C, H, W], whose sides are multiples of 8."""
        context = self.mixing(self.context(features))
        read = functional.scaled_dot_product_attention(
            self._split(self.query(to_windows(features))),
            self._split(self.key(context)),
            self._split(self.value(context)),
        )
        windows = read.transpose(2, 3).flatten(1, 2)
        found = from_windows(windows, (features.shape[-2], features.shape[-1]))
        result: Tensor = features + self.norm(self.out(found))
        return result

    def _split(self, windows: Tensor) -> Tensor:
        return windows.reshape(len(windows), self.heads, -1, SIDE * SIDE).transpose(2, 3)


class LawinHead(nn.Module):
    """Three large-window attentions, a short path and the image's mean, then the finest map.

    Args:
        channels: Channels of the four maps, finest first.
        num_classes: Output channels.
        width: Channels of the attentions; a multiple of 128.
        linear: Channels of the linear layers of the three coarser maps.
        low_level: Channels of that of the finest.
        dropout: Probability before the classifier.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 512,
        linear: int = 768,
        low_level: int = LOW_LEVEL,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        finest, *coarser = channels
        self.low_level = nn.Conv2d(finest, low_level, 1)
        self.project = nn.ModuleList(nn.Conv2d(c, linear, 1) for c in coarser)
        self.fuse = ConvNormAct(len(coarser) * linear, width, kernel=1)
        self.attentions = nn.ModuleList(LargeWindowAttention(width, ratio) for ratio in RATIOS)
        self.short_path = ConvNormAct(width, width, kernel=1)
        self.image_pool = ConvNormAct(width, width, kernel=1)
        self.join = ConvNormAct((2 + len(RATIOS)) * width, width, kernel=1)
        self.join_low_level = ConvNormAct(width + low_level, width, kernel=1)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return scores [N, C, H, W] at the size of the finest of ``maps``."""
        finest, *coarser = maps
        size = (coarser[0].shape[-2], coarser[0].shape[-1])
        levels = [
            resize(project(features), size)
            for project, features in zip(self.project, coarser, strict=True)
        ]
        joined = self.join(self.pyramid(self.fuse(torch.cat(levels[::-1], dim=1))))
        low_level = self.low_level(finest)
        joined = resize(joined, (finest.shape[-2], finest.shape[-1]))
        scores: Tensor = self.classifier(self.join_low_level(torch.cat([joined, low_level], dim=1)))
        return scores

    def pyramid(self, features: Tensor) -> Tensor:
        """Return the five branches of [N, C, H, W], concatenated: [N, 5 C, H, W]."""
        height, width = features.shape[-2:]
        mean = self.image_pool(functional.adaptive_avg_pool2d(features, 1))
        padded = functional.pad(features, (0, -width % SIDE, 0, -height % SIDE))
        branches = [self.short_path(features), mean.expand(-1, -1, height, width)]
        for attention in self.attentions:
            branches.append(attention(padded)[..., :height, :width])
        return torch.cat(branches, dim=1)


class Lawin(SemanticModel):
    """A Mix Transformer and the head on its four maps.

    Args:
        num_classes: Output channels.
        backbone: The Mix Transformer.
        width: Channels of the attentions.
        linear: Channels of the linear layers.
        dropout: Probability before the classifier.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: MiT,
        width: int = 512,
        linear: int = 768,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__(num_classes)
        self.backbone = backbone
        channels = list(backbone.channels.values())
        self.head = LawinHead(channels, num_classes, width=width, linear=linear, dropout=dropout)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        scores = self.head(list(self.backbone(images).values()))
        return {"logits": resize(scores, (images.shape[-2], images.shape[-1]))}


def _lawin(
    num_classes: int, name: str, *, backbone_weights: str = "none", drop_path: float = 0.1
) -> Lawin:
    backbone = create_mit(name, weights=backbone_weights, drop_path=drop_path)
    return Lawin(num_classes, backbone=backbone)


@register_model("lawin_mit_b2", display_name="Lawin (MiT-B2)", backbone="mit_b2")
def lawin_mit_b2(num_classes: int, **options: Any) -> Lawin:
    """Return Lawin on MiT-B2: 30,253,190 parameters at 150 classes."""
    return _lawin(num_classes, "mit_b2", **options)


@register_model("lawin_mit_b3", display_name="Lawin (MiT-B3)", backbone="mit_b3")
def lawin_mit_b3(num_classes: int, **options: Any) -> Lawin:
    """Return Lawin on MiT-B3: 50,129,030 parameters at 150 classes."""
    return _lawin(num_classes, "mit_b3", **options)


@register_model("lawin_mit_b5", display_name="Lawin (MiT-B5)", backbone="mit_b5")
def lawin_mit_b5(num_classes: int, **options: Any) -> Lawin:
    """Return Lawin on MiT-B5: 87,499,910 parameters at 150 classes."""
    return _lawin(num_classes, "mit_b5", **options)


@register_model("lawin_tiny", display_name="Lawin (tiny)", backbone="mit_tiny", size="tiny")
def lawin_tiny(num_classes: int, *, linear: int = 64) -> Lawin:
    """Return a small Lawin for a CPU, on maps of strides 2 to 16; 128 channels is the least."""
    backbone = create_mit("mit_tiny")
    return Lawin(num_classes, backbone=backbone, width=128, linear=linear, dropout=0.0)
