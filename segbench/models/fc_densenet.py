"""FC-DenseNet, "the one hundred layers tiramisu".

Jégou, Drozdzal, Vazquez, Romero and Bengio, CVPR Workshops 2017 (arXiv 1611.09326). Dense
blocks down and up; on the way up only what the last block made is enlarged, so that the maps
do not grow without bound. Counts are trainable parameters of the released definitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "The One Hundred Layers Tiramisu: Fully Convolutional DenseNets"
YEAR = 2017
TASK = "semantic"

DROPOUT = 0.2


class DenseLayer(nn.Sequential):
    """BatchNorm, ReLU, 3x3 convolution to ``growth`` maps, dropout."""

    def __init__(self, in_channels: int, growth: int, *, dropout: float) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, growth, 3, padding=1),
            nn.Dropout2d(dropout),
        )


class DenseBlock(nn.Module):
    """Layers that each read the input and all maps made before them."""

    def __init__(self, in_channels: int, growth: int, layers: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(in_channels + i * growth, growth, dropout=dropout) for i in range(layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the new maps alone, [N, layers * growth, H, W]."""
        made: list[Tensor] = []
        for layer in self.layers:
            made.append(layer(torch.cat([features, *made], dim=1)))
        return torch.cat(made, dim=1)


class TransitionDown(nn.Sequential):
    """BatchNorm, ReLU, 1x1 convolution, dropout and 2x2 max-pooling; channels stay."""

    def __init__(self, channels: int, *, dropout: float) -> None:
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.Dropout2d(dropout),
            nn.MaxPool2d(2),
        )


class FCDenseNet(SemanticModel):
    """Dense blocks on the way down, at the bottom, and on the way up.

    Args:
        num_classes: Output channels.
        growth: Maps each layer adds.
        layers: Layers of each block on the way down; the way up mirrors them.
        bottleneck: Layers of the block at the bottom.
        first: Channels of the first convolution.
        dropout: Probability of dropping a whole map.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        growth: int,
        layers: Sequence[int],
        bottleneck: int,
        first: int = 48,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__(num_classes)
        self.stem = nn.Conv2d(3, first, 3, padding=1)
        self.down, self.pool = nn.ModuleList(), nn.ModuleList()
        channels, skips = first, []
        for depth in layers:
            self.down.append(DenseBlock(channels, growth, depth, dropout=dropout))
            channels += growth * depth
            skips.append(channels)
            self.pool.append(TransitionDown(channels, dropout=dropout))
        self.bottom = DenseBlock(channels, growth, bottleneck, dropout=dropout)
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        made = growth * bottleneck
        for depth, skip in zip(reversed(layers), reversed(skips), strict=True):
            self.enlarge.append(nn.ConvTranspose2d(made, made, 3, stride=2))
            self.up.append(DenseBlock(made + skip, growth, depth, dropout=dropout))
            channels = made + skip + growth * depth
            made = growth * depth
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W]; sides of at least 2 to the number of poolings."""
        features, skips = self.stem(images), []
        for block, pool in zip(self.down, self.pool, strict=True):
            features = torch.cat([features, block(features)], dim=1)
            skips.append(features)
            features = pool(features)
        made = self.bottom(features)
        for enlarge, block, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            joined = torch.cat([_cropped(enlarge(made), skip), skip], dim=1)
            made = block(joined)
        return {"logits": self.classifier(torch.cat([joined, made], dim=1))}


def _cropped(enlarged: Tensor, skip: Tensor) -> Tensor:
    """Return the centre of ``enlarged`` at the size of ``skip``; one row short is repeated."""
    rows = skip.shape[-2] - enlarged.shape[-2]
    columns = skip.shape[-1] - enlarged.shape[-1]
    margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(enlarged, margins)


@register_model("fc_densenet56", display_name="FC-DenseNet56")
def fc_densenet56(num_classes: int) -> FCDenseNet:
    """Return FC-DenseNet56, growth 12: 1,376,795 parameters at 11 classes."""
    return FCDenseNet(num_classes, growth=12, layers=(4,) * 5, bottleneck=4)


@register_model("fc_densenet67", display_name="FC-DenseNet67")
def fc_densenet67(num_classes: int) -> FCDenseNet:
    """Return FC-DenseNet67, growth 16: 3,463,243 parameters at 11 classes."""
    return FCDenseNet(num_classes, growth=16, layers=(5,) * 5, bottleneck=5)


@register_model("fc_densenet103", display_name="FC-DenseNet103")
def fc_densenet103(num_classes: int) -> FCDenseNet:
    """Return FC-DenseNet103, growth 16: 9,322,091 parameters at 11 classes."""
    return FCDenseNet(num_classes, growth=16, layers=(4, 5, 7, 10, 12), bottleneck=15)


@register_model("fc_densenet_tiny", display_name="FC-DenseNet (tiny)", size="tiny")
def fc_densenet_tiny(num_classes: int) -> FCDenseNet:
    """Return a small FC-DenseNet for a CPU."""
    return FCDenseNet(num_classes, growth=16, layers=(2, 3, 4), bottleneck=4, first=32, dropout=0.0)
