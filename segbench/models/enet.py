"""ENet.

Paszke, Chaurasia, Kim and Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time
Semantic Segmentation", arXiv 1606.02147. Counts follow the public PyTorch port (davidtvs): no
bias anywhere, one PReLU parameter a layer in the encoder, ReLU in the decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import resize
from segbench.layers.unpool import Size, max_pool_with_places, max_unpool
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation"
YEAR = 2016
TASK = "semantic"

RATIO = 4
"""A bottleneck works on a quarter of its channels."""


class InitialBlock(nn.Module):
    """13 filters of stride 2 beside the pooled image: 16 channels at half the size."""

    def __init__(self, out_channels: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, out_channels - 3, 3, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Return features at stride 2."""
        pooled = functional.max_pool2d(images, 3, 2, padding=1)
        features: Tensor = self.act(self.norm(torch.cat([self.conv(images), pooled], dim=1)))
        return features


class Bottleneck(nn.Module):
    """1x1 down, a 3x3, dilated or asymmetric convolution, 1x1 up, added to the input.

    Args:
        channels: Channels in and out.
        dilation: Of the 3x3 convolution.
        asymmetric: A 5x1 and a 1x5 convolution in place of the 3x3.
        dropout: Probability of dropping a whole channel of the residual.
        relu: ReLU in place of PReLU.
    """

    def __init__(
        self,
        channels: int,
        *,
        dilation: int = 1,
        asymmetric: bool = False,
        dropout: float = 0.1,
        relu: bool = False,
    ) -> None:
        super().__init__()
        inner = channels // RATIO
        if asymmetric:
            middle = nn.Sequential(
                _block(nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False), relu),
                _block(nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False), relu),
            )
        else:
            conv = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
            middle = _block(conv, relu)
        self.residual = nn.Sequential(
            _block(nn.Conv2d(channels, inner, 1, bias=False), relu),
            middle,
            _block(nn.Conv2d(inner, channels, 1, bias=False), relu),
            nn.Dropout2d(dropout),
        )
        self.act = _act(relu)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, channels, H, W]."""
        result: Tensor = self.act(features + self.residual(features))
        return result


class DownBottleneck(nn.Module):
    """Half the size: the pooled input, padded with zero channels, plus a strided residual."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        inner = in_channels // RATIO
        self.extra = out_channels - in_channels
        self.residual = nn.Sequential(
            _block(nn.Conv2d(in_channels, inner, 2, 2, bias=False), False),
            _block(nn.Conv2d(inner, inner, 3, padding=1, bias=False), False),
            _block(nn.Conv2d(inner, out_channels, 1, bias=False), False),
            nn.Dropout2d(dropout),
        )
        self.act = _act(False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Size]:
        """Return features at half the size, the places of the maxima, and the size before."""
        pooled, places, size = max_pool_with_places(features)
        padded = functional.pad(pooled, (0, 0, 0, 0, 0, self.extra))
        return self.act(padded + self.residual(features)), places, size


class UpBottleneck(nn.Module):
    """Twice the size: the input unpooled at remembered places plus a transposed residual."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        inner = in_channels // RATIO
        self.main = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.residual = nn.Sequential(
            _block(nn.Conv2d(in_channels, inner, 1, bias=False), True),
            _block(nn.ConvTranspose2d(inner, inner, 2, 2, bias=False), True),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.Dropout2d(dropout),
        )

    def forward(self, features: Tensor, places: Tensor, size: Size) -> Tensor:
        """Return [N, out_channels, *size]."""
        main = max_unpool(self.main(features), places, size)
        residual = self.residual(features)
        rows, columns = size[0] - residual.shape[-2], size[1] - residual.shape[-1]
        return functional.relu(main + functional.pad(residual, (0, columns, 0, rows)))


class ENet(SemanticModel):
    """Encoder to stride 8 in three stages, a light decoder, one last transposed convolution.

    Args:
        num_classes: Output channels.
        widths: Channels at strides 2, 4 and 8.
        repeats: How often the stage of dilated and asymmetric bottlenecks occurs.
        encoder_only: The first stage of training: a 1x1 classifier in place of the decoder.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: tuple[int, int, int] = (16, 64, 128),
        repeats: int = 2,
        encoder_only: bool = False,
    ) -> None:
        super().__init__(num_classes)
        fine, middle, deep = widths
        self.initial = InitialBlock(fine)
        self.down1 = DownBottleneck(fine, middle, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(middle, dropout=0.01) for _ in range(4)))
        self.down2 = DownBottleneck(middle, deep, dropout=0.1)
        self.stage2 = nn.Sequential(*(block for _ in range(repeats) for block in _context(deep)))
        self.encoder_only = encoder_only
        if encoder_only:
            self.encoder_classifier = nn.Conv2d(deep, num_classes, 1)
            return
        self.up4 = UpBottleneck(deep, middle)
        self.stage4 = nn.Sequential(*(Bottleneck(middle, relu=True) for _ in range(2)))
        self.up5 = UpBottleneck(middle, fine)
        self.stage5 = Bottleneck(fine, relu=True)
        self.classifier = nn.ConvTranspose2d(fine, num_classes, 3, 2, padding=1, bias=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.initial(images)
        features, places1, size1 = self.down1(features)
        features, places2, size2 = self.down2(self.stage1(features))
        features = self.stage2(features)
        size = (images.shape[-2], images.shape[-1])
        if self.encoder_only:
            return {"logits": resize(self.encoder_classifier(features), size)}
        features = self.up4(features, places2, size2)
        features = self.stage5(self.up5(self.stage4(features), places1, size1))
        smallest = [2 * side - 1 for side in features.shape[-2:]]
        output = [max(low, min(low + 1, side)) for low, side in zip(smallest, size, strict=True)]
        return {"logits": resize(self.classifier(features, output_size=output), size)}


def _context(channels: int) -> list[Bottleneck]:
    """Return the eight bottlenecks of stages 2 and 3."""
    return [
        Bottleneck(channels),
        Bottleneck(channels, dilation=2),
        Bottleneck(channels, asymmetric=True),
        Bottleneck(channels, dilation=4),
        Bottleneck(channels),
        Bottleneck(channels, dilation=8),
        Bottleneck(channels, asymmetric=True),
        Bottleneck(channels, dilation=16),
    ]


def _act(relu: bool) -> nn.Module:
    return nn.ReLU() if relu else nn.PReLU()


def _block(conv: nn.Conv2d | nn.ConvTranspose2d, relu: bool) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), _act(relu))


@register_model("enet", display_name="ENet")
def enet(num_classes: int, *, encoder_only: bool = False) -> ENet:
    """Return ENet: 351,660 parameters at 19 classes, 350,508 at 11."""
    return ENet(num_classes, encoder_only=encoder_only)


@register_model("enet_tiny", display_name="ENet (tiny)", size="tiny")
def enet_tiny(num_classes: int) -> ENet:
    """Return ENet with one context stage, for a CPU."""
    return ENet(num_classes, widths=(32, 64, 96), repeats=1)
