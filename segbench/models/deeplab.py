"""DeepLab v3+.

Chen, Zhu, Papandreou, Schroff and Adam, "Encoder-Decoder with Atrous Separable Convolution
for Semantic Image Segmentation", ECCV 2018 (arXiv 1802.02611). The counts of the ResNet
variants follow the convention of the library segmentation_models_pytorch: plain torchvision
ResNet at output stride 16, separable convolutions in the pyramid and the decoder, one
separable convolution after each, no auxiliary head: 26,682,725 (ResNet-50) and 45,674,853
(ResNet-101) parameters at 21 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segbench.layers.aspp import ASPP
from segbench.layers.conv import ConvNormAct, SeparableConvNormAct, resize
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models.backbones import create_backbone
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation"
YEAR = 2018
TASK = "semantic"
MIN_BATCH = 2

DILATIONS = {16: (6, 12, 18), 8: (12, 24, 36)}
"""Dilations of the pyramid by output stride, as the paper has them."""


class DeepLabV3PlusHead(nn.Module):
    """Pyramid on the deep features, joined at stride 4 with reduced low-level features.

    Args:
        deep_channels: Channels of the deepest features.
        low_channels: Channels of the features at stride 4.
        num_classes: Output channels.
        dilations: Dilations of the pyramid's 3x3 convolutions.
        width: Channels of the pyramid and the decoder.
        low_width: Channels the low-level features are reduced to.
    """

    def __init__(
        self,
        deep_channels: int,
        low_channels: int,
        *,
        num_classes: int,
        dilations: Sequence[int],
        width: int = 256,
        low_width: int = 48,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.pyramid = nn.Sequential(
            ASPP(deep_channels, width, dilations=dilations, separable=True, dropout=dropout),
            SeparableConvNormAct(width, width),
        )
        self.reduce_low = ConvNormAct(low_channels, low_width, kernel=1)
        self.fuse = SeparableConvNormAct(width + low_width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, deep: Tensor, low: Tensor) -> Tensor:
        """Return logits at the size of ``low``."""
        context = resize(self.pyramid(deep), (low.shape[-2], low.shape[-1]))
        fused = self.fuse(torch.cat([context, self.reduce_low(low)], dim=1))
        logits: Tensor = self.classifier(fused)
        return logits


class DeepLabV3Plus(SemanticModel):
    """An image classifier with dilated last stages and the DeepLab v3+ head.

    Args:
        num_classes: Output channels.
        backbone: A name of ``segbench.models.backbones``.
        output_stride: 16 or 8.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        head: Options of ``DeepLabV3PlusHead``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str,
        output_stride: int = 16,
        backbone_weights: str = "none",
        **head: Any,
    ) -> None:
        super().__init__(num_classes)
        self.backbone = create_backbone(
            backbone, weights=backbone_weights, output_stride=output_stride
        )
        self.deep = f"stride{output_stride}"
        self.head = DeepLabV3PlusHead(
            self.backbone.channels[self.deep],
            self.backbone.channels["stride4"],
            num_classes=num_classes,
            dilations=DILATIONS[output_stride],
            **head,
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.backbone(images)
        logits = self.head(features[self.deep], features["stride4"])
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}


class TinyDeepLabV3Plus(SemanticModel):
    """The head, narrow, on a residual trunk whose last stage is dilated to output stride 8.

    While it trains, a 1x1 classifier on the trunk gives an auxiliary map: without it the
    digits were not learned in a short training.
    """

    def __init__(self, num_classes: int, *, width: int = 48) -> None:
        super().__init__(num_classes, aux_weight=1.0)
        self.trunk = ResidualTrunk(width, output_stride=8)
        self.head = DeepLabV3PlusHead(
            self.trunk.channels["stride8"],
            self.trunk.channels["stride4"],
            num_classes=num_classes,
            dilations=(1, 2, 4),
            width=48,
            low_width=24,
            dropout=0.0,
        )
        self.aux_head = nn.Conv2d(self.trunk.channels["stride8"], num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` in training."""
        features = self.trunk(images)
        logits = self.head(features["stride8"], features["stride4"])
        outputs: dict[str, Any] = {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}
        if self.training:
            outputs["aux"] = [self.aux_head(features["stride8"])]
        return outputs


@register_model(
    "deeplab_v3plus_resnet50", display_name="DeepLab v3+ (ResNet-50)", backbone="resnet50"
)
def deeplab_v3plus_resnet50(num_classes: int, **options: Any) -> DeepLabV3Plus:
    """Return DeepLab v3+ on ResNet-50: 26,682,725 parameters at 21 classes."""
    return DeepLabV3Plus(num_classes, backbone="resnet50", **options)


@register_model(
    "deeplab_v3plus_resnet101", display_name="DeepLab v3+ (ResNet-101)", backbone="resnet101"
)
def deeplab_v3plus_resnet101(num_classes: int, **options: Any) -> DeepLabV3Plus:
    """Return DeepLab v3+ on ResNet-101: 45,674,853 parameters at 21 classes."""
    return DeepLabV3Plus(num_classes, backbone="resnet101", **options)


@register_model(
    "deeplab_v3plus_efficientnet_lite0",
    display_name="DeepLab v3+ (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def deeplab_v3plus_efficientnet_lite0(num_classes: int, **options: Any) -> DeepLabV3Plus:
    """Return DeepLab v3+ on EfficientNet-Lite0, with a decoder of half the paper's width."""
    head = {"width": 128, "low_width": 32, **options}
    return DeepLabV3Plus(num_classes, backbone="efficientnet_lite0", **head)


@register_model(
    "deeplab_v3plus_tiny", display_name="DeepLab v3+ (tiny)", backbone="residual_trunk", size="tiny"
)
def deeplab_v3plus_tiny(num_classes: int, *, width: int = 48) -> TinyDeepLabV3Plus:
    """Return a small DeepLab v3+ for a CPU."""
    return TinyDeepLabV3Plus(num_classes, width=width)
