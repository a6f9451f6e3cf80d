"""ERFNet.

Romera, Alvarez, Bergasa and Arroyo, "ERFNet: Efficient Residual Factorized ConvNet for
Real-Time Semantic Segmentation", T-ITS 2018, as in the authors' PyTorch code. The encoder has
a classifier of its own, with which the paper trains it first (``encoder_only``); while both
parts train together it gives an auxiliary map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import resize
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic Segmentation"
YEAR = 2018
TASK = "semantic"

EPS = 1e-3
"""Of every BatchNorm."""
DILATIONS = (2, 4, 8, 16)


class Downsampler(nn.Module):
    """A strided 3x3 convolution beside the pooled input, as ENet's initial block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, 2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, ceil(H / 2), ceil(W / 2)]."""
        pooled = functional.max_pool2d(features, 2, 2, ceil_mode=True)
        return functional.relu(self.norm(torch.cat([self.conv(features), pooled], dim=1)))


class NonBottleneck1D(nn.Module):
    """Two 3x3 convolutions, each factored into 3x1 and 1x3, around an identity."""

    def __init__(self, channels: int, *, dropout: float, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(*_factored(channels, 1), nn.BatchNorm2d(channels, eps=EPS))
        self.second = nn.Sequential(
            *_factored(channels, dilation), nn.BatchNorm2d(channels, eps=EPS), nn.Dropout2d(dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, channels, H, W]."""
        residual = self.second(functional.relu(self.first(features)))
        return functional.relu(residual + features)


class Upsampler(nn.Module):
    """A 3x3 transposed convolution of stride 2, BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 3, 2, padding=1, output_padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, 2 H, 2 W]."""
        return functional.relu(self.norm(self.conv(features)))


class ERFNet(SemanticModel):
    """Encoder to stride 8, decoder back to the size of the image.

    Args:
        num_classes: Output channels.
        widths: Channels at strides 2, 4 and 8.
        blocks: Blocks at stride 4, and repetitions of the four dilated ones at stride 8.
        dropout: Of the blocks at stride 4 and at stride 8.
        encoder_only: The first stage of training: the encoder and its classifier alone.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: tuple[int, int, int] = (16, 64, 128),
        blocks: tuple[int, int] = (5, 2),
        dropout: tuple[float, float] = (0.03, 0.3),
        encoder_only: bool = False,
    ) -> None:
        super().__init__(num_classes)
        fine, middle, deep = widths
        self.encoder = nn.Sequential(
            Downsampler(3, fine),
            Downsampler(fine, middle),
            *(NonBottleneck1D(middle, dropout=dropout[0]) for _ in range(blocks[0])),
            Downsampler(middle, deep),
            *(
                NonBottleneck1D(deep, dropout=dropout[1], dilation=dilation)
                for _ in range(blocks[1])
                for dilation in DILATIONS
            ),
        )
        self.encoder_classifier = nn.Conv2d(deep, num_classes, 1)
        self.encoder_only = encoder_only
        if encoder_only:
            return
        self.decoder = nn.Sequential(
            Upsampler(deep, middle),
            *(NonBottleneck1D(middle, dropout=0.0) for _ in range(2)),
            Upsampler(middle, fine),
            *(NonBottleneck1D(fine, dropout=0.0) for _ in range(2)),
        )
        self.classifier = nn.ConvTranspose2d(fine, num_classes, 2, 2)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` in training."""
        features, size = self.encoder(images), (images.shape[-2], images.shape[-1])
        if self.encoder_only:
            return {"logits": resize(self.encoder_classifier(features), size)}
        logits = self.classifier(self.decoder(features))
        outputs: dict[str, Any] = {"logits": resize(logits, size)}
        if self.training:
            outputs["aux"] = [self.encoder_classifier(features)]
        return outputs


def _factored(channels: int, dilation: int) -> list[nn.Module]:
    down, across = (dilation, 0), (0, dilation)
    return [
        nn.Conv2d(channels, channels, (3, 1), padding=down, dilation=(dilation, 1)),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, (1, 3), padding=across, dilation=(1, dilation)),
    ]


@register_model("erfnet", display_name="ERFNet")
def erfnet(num_classes: int, *, encoder_only: bool = False) -> ERFNet:
    """Return ERFNet: 2,066,836 parameters at 20 classes, 2,066,642 at 19."""
    return ERFNet(num_classes, encoder_only=encoder_only)


@register_model("erfnet_tiny", display_name="ERFNet (tiny)", size="tiny")
def erfnet_tiny(num_classes: int) -> ERFNet:
    """Return a small ERFNet for a CPU."""
    return ERFNet(num_classes, widths=(16, 48, 96), blocks=(2, 1), dropout=(0.0, 0.0))
