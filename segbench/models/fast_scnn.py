"""Fast-SCNN.

Poudel, Liwicki and Cipolla, "Fast-SCNN: Fast Semantic Segmentation Network", BMVC 2019 (arXiv
1902.04502). Counts follow the public PyTorch port (Tramac) without its auxiliary head; the
paper prints 1.11 million and does not say of what.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct, resize
from segbench.layers.pyramid_pooling import PyramidPooling
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "Fast-SCNN: Fast Semantic Segmentation Network"
YEAR = 2019
TASK = "semantic"
MIN_BATCH = 2

EXPANSION = 6
"""Channels inside an inverted residual, as a multiple of those it reads."""


class DepthwiseSeparable(nn.Sequential):
    """3x3 depthwise, then 1x1, each with BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(
            *_depthwise(in_channels, stride=stride),
            *ConvNormAct(in_channels, out_channels, kernel=1),
        )


class InvertedResidual(nn.Module):
    """1x1 to six times the channels, 3x3 depthwise, linear 1x1; Sandler et al., CVPR 2018."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        inner = EXPANSION * in_channels
        self.shortcut = stride == 1 and in_channels == out_channels
        self.residual = nn.Sequential(
            ConvNormAct(in_channels, inner, kernel=1),
            *_depthwise(inner, stride=stride),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H / stride, W / stride]."""
        residual: Tensor = self.residual(features)
        return features + residual if self.shortcut else residual


class FeatureFusion(nn.Module):
    """Deep features, enlarged four times and dilated by as much, plus the shallow ones."""

    def __init__(self, shallow: int, deep: int, out_channels: int) -> None:
        super().__init__()
        self.dilated = nn.Sequential(*_depthwise(deep, dilation=4))
        self.deep = nn.Sequential(nn.Conv2d(deep, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.shallow = nn.Sequential(
            nn.Conv2d(shallow, out_channels, 1), nn.BatchNorm2d(out_channels)
        )

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Return features at the size of ``shallow``."""
        deep = self.dilated(resize(deep, (shallow.shape[-2], shallow.shape[-1])))
        return functional.relu(self.shallow(shallow) + self.deep(deep))


class FastSCNN(SemanticModel):
    """Learning to downsample, global features, fusion, classifier.

    Args:
        num_classes: Output channels.
        shallow: Channels of the three convolutions of stride 2.
        deep: Channels of the three stages of inverted residuals.
        blocks: Inverted residuals of each stage; the first of stages 1 and 2 has stride 2.
        dropout: Before the last convolution.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        shallow: tuple[int, int, int] = (32, 48, 64),
        deep: tuple[int, int, int] = (64, 96, 128),
        blocks: tuple[int, int, int] = (3, 3, 3),
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes)
        width = deep[-1]
        self.downsample = nn.Sequential(
            ConvNormAct(3, shallow[0], stride=2),
            DepthwiseSeparable(shallow[0], shallow[1], stride=2),
            DepthwiseSeparable(shallow[1], shallow[2], stride=2),
        )
        self.features = nn.Sequential(
            *_stage(shallow[2], deep[0], blocks[0], stride=2),
            *_stage(deep[0], deep[1], blocks[1], stride=2),
            *_stage(deep[1], deep[2], blocks[2], stride=1),
        )
        self.pyramid = PyramidPooling(width)
        self.project = ConvNormAct(self.pyramid.out_channels, width, kernel=1)
        self.fuse = FeatureFusion(shallow[2], width, width)
        self.classifier = nn.Sequential(
            DepthwiseSeparable(width, width),
            DepthwiseSeparable(width, width),
            nn.Dropout(dropout),
            nn.Conv2d(width, num_classes, 1),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        shallow = self.downsample(images)
        deep = self.project(self.pyramid(self.features(shallow)))
        logits = self.classifier(self.fuse(shallow, deep))
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}


def _depthwise(channels: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(
        channels,
        channels,
        3,
        stride,
        padding=dilation,
        dilation=dilation,
        groups=channels,
        bias=False,
    )
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _stage(in_channels: int, width: int, blocks: int, *, stride: int) -> list[nn.Module]:
    first = InvertedResidual(in_channels, width, stride=stride)
    return [first, *(InvertedResidual(width, width) for _ in range(blocks - 1))]


@register_model("fast_scnn", display_name="Fast-SCNN")
def fast_scnn(num_classes: int) -> FastSCNN:
    """Return Fast-SCNN: 1,138,051 parameters at 19 classes."""
    return FastSCNN(num_classes)


@register_model("fast_scnn_tiny", display_name="Fast-SCNN (tiny)", size="tiny")
def fast_scnn_tiny(num_classes: int) -> FastSCNN:
    """Return a Fast-SCNN of one block a stage, for a CPU."""
    return FastSCNN(num_classes, blocks=(1, 1, 1), dropout=0.0)
