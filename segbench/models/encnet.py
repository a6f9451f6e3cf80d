"""EncNet: context encoding.

Zhang, Dana, Shi, Zhang, Wang, Tyagi and Agrawal, "Context Encoding for Semantic Segmentation",
CVPR 2018 (arXiv 1803.08904). Features are assigned to codewords, their residuals summed to one
vector of the image; it scales the channels, and predicts which classes are present (SE loss).
Counts follow mmsegmentation with its auxiliary head: 35,891,961 (ResNet-50, 19 classes) and
55,052,162 (ResNet-101, 150 classes) parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct, resize
from segbench.layers.losses.presence import class_presence
from segbench.models.backbones import create_resnet
from segbench.models.bases.semantic import SemanticModel, SemanticTargets
from segbench.models.deeplab_v3 import fcn_head
from segbench.models.parts.tiny_trunk import WIDTH, TinyNetwork, lite0_trunk
from segbench.models.registry import register_model

PAPER = "Context Encoding for Semantic Segmentation"
YEAR = 2018
TASK = "semantic"

CODEWORDS = 32
SE_WEIGHT = 0.2


class Encoding(nn.Module):
    """Residuals of all pixels to K codewords, softly assigned and summed.

    Args:
        channels: Length of a codeword.
        num_codes: K.
    """

    def __init__(self, channels: int, num_codes: int) -> None:
        super().__init__()
        bound = (num_codes * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(num_codes, channels).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.empty(num_codes).uniform_(-1, 0))

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, K, channels] of features [N, channels, H, W]."""
        pixels = features.flatten(2).transpose(1, 2)
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, without a tensor of every difference
        distance = pixels.square().sum(2, keepdim=True) - 2 * pixels @ self.codewords.T
        distance = distance + self.codewords.square().sum(1)
        assigned = (self.scale * distance).softmax(dim=2)
        weighted = assigned.transpose(1, 2) @ pixels
        return weighted - assigned.sum(1).unsqueeze(2) * self.codewords


class ContextEncoding(nn.Module):
    """The image's vector scales the channels and tells which classes are present."""

    def __init__(self, channels: int, num_classes: int, *, num_codes: int) -> None:
        super().__init__()
        self.project = ConvNormAct(channels, channels, kernel=1)
        self.encode = Encoding(channels, num_codes)
        self.normalise = nn.BatchNorm1d(num_codes)
        self.gate = nn.Linear(channels, channels)
        self.presence = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return scaled features [N, channels, H, W] and presence logits [N, C]."""
        codes = functional.relu(self.normalise(self.encode(self.project(features))))
        vector = codes.mean(1)
        gate = self.gate(vector).sigmoid()[..., None, None]
        return functional.relu(features + features * gate), self.presence(vector)


class EncHead(nn.Module):
    """3x3 convolution, context encoding, dropout, classifier."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 512,
        num_codes: int = CODEWORDS,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.bottleneck = ConvNormAct(in_channels, width)
        self.context = ContextEncoding(width, num_classes, num_codes=num_codes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [N, C, H, W] and presence logits [N, C]."""
        scaled, presence = self.context(self.bottleneck(features))
        return self.classifier(self.dropout(scaled)), presence


class EncodingModel(SemanticModel):
    """Adds the SE loss to cross-entropy: is each class present in the image?"""

    def loss(self, outputs: Mapping[str, Any], targets: SemanticTargets) -> dict[str, Tensor]:
        """Return the losses of every semantic network and ``se``, weighted by 0.2."""
        losses = super().loss(outputs, targets)
        assert targets.semantic is not None
        losses["se"] = SE_WEIGHT * class_presence(outputs["presence"], targets.semantic)
        return losses


class EncNet(EncodingModel):
    """Dilated ResNet, encoding head, auxiliary FCN head.

    Args:
        num_classes: Output channels.
        backbone: A ResNet of ``segbench.models.backbones``.
        backbone_weights: ``none`` or a safetensors file.
    """

    def __init__(self, num_classes: int, *, backbone: str, backbone_weights: str = "none") -> None:
        super().__init__(num_classes, aux_weight=0.4)
        self.backbone = create_resnet(backbone, weights=backbone_weights, output_stride=8)
        deep = self.backbone.channels["stride8"]
        self.head = EncHead(deep, num_classes)
        self.aux_head = fcn_head(deep // 2, num_classes)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W], ``presence`` [N, C], and ``aux`` in training."""
        stages = self.backbone.stages(images)
        scores, presence = self.head(stages[-1])
        size = (images.shape[-2], images.shape[-1])
        outputs: dict[str, Any] = {"logits": resize(scores, size), "presence": presence}
        if self.training:
            outputs["aux"] = [self.aux_head(stages[-2])]
        return outputs


class TinyEncNet(EncodingModel, TinyNetwork):
    """The encoding head, narrow, on a small trunk."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images and ``presence`` [N, C]."""
        features = self.trunk(images)
        scores, presence = self.head(features[self.deepest])
        logits = self.with_fine_scores(scores, features)
        size = (images.shape[-2], images.shape[-1])
        return {"logits": resize(logits, size), "presence": presence}


@register_model("encnet_resnet50", display_name="EncNet (ResNet-50)", backbone="resnet50_v1c")
def encnet_resnet50(num_classes: int, **options: Any) -> EncNet:
    """Return EncNet on ResNet-50: 35,891,961 parameters at 19 classes."""
    return EncNet(num_classes, backbone="resnet50_v1c", **options)


@register_model("encnet_resnet101", display_name="EncNet (ResNet-101)", backbone="resnet101_v1c")
def encnet_resnet101(num_classes: int, **options: Any) -> EncNet:
    """Return EncNet on ResNet-101: 55,052,162 parameters at 150 classes."""
    return EncNet(num_classes, backbone="resnet101_v1c", **options)


@register_model("encnet_tiny", display_name="EncNet (tiny)", backbone="residual_trunk", size="tiny")
def encnet_tiny(num_classes: int, *, width: int = WIDTH) -> TinyEncNet:
    """Return a small EncNet for a CPU."""

    def head(channels: int) -> nn.Module:
        return EncHead(channels, num_classes, width=2 * width, num_codes=16, dropout=0.0)

    return TinyEncNet(num_classes, head=head, width=width)


@register_model(
    "encnet_efficientnet_lite0",
    display_name="EncNet (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def encnet_efficientnet_lite0(num_classes: int, *, backbone_weights: str = "none") -> TinyEncNet:
    """Return a narrow EncNet head on EfficientNet-Lite0, with scores of strides 8 and 4."""

    def head(channels: int) -> nn.Module:
        return EncHead(channels, num_classes, width=128)

    return TinyEncNet(num_classes, head=head, trunk=lite0_trunk(backbone_weights))
