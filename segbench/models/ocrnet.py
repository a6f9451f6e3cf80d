"""OCRNet: object-contextual representations.

Yuan, Chen and Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020
(arXiv 1909.11065). A coarse map says which pixels belong to each class; a softmax over the
*pixels* of each class gathers one vector a class, and every pixel reads those vectors by
attention. Counts follow mmsegmentation on HRNetV2: 12,080,036 (W18) and 70,371,446 (W48)
parameters at 19 classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segbench.layers.conv import ConvNormAct, resize
from segbench.models.bases.semantic import SemanticModel
from segbench.models.hrnet import HRNetV2, fcn_head, hrnet, tiny_network
from segbench.models.registry import register_model

PAPER = "Object-Contextual Representations for Semantic Segmentation"
YEAR = 2020
TASK = "semantic"

CHANNELS, KEY_CHANNELS = 512, 256


def gather_regions(features: Tensor, scores: Tensor) -> Tensor:
    """Return one vector a class: the features, weighted by a softmax over the pixels.

    Args:
        features: [N, D, H, W].
        scores: [N, C, H, W], the coarse map.

    Returns:
        [N, D, C, 1].
    """
    weights = scores.flatten(2).softmax(dim=2)
    return torch.einsum("ndp,ncp->ndc", features.flatten(2), weights).unsqueeze(-1)


class ObjectAttention(nn.Module):
    """Every pixel reads the class vectors by scaled dot products.

    Args:
        channels: Channels of pixels and regions.
        key_channels: Channels of queries, keys and values.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = _projection(channels, key_channels)
        self.key = _projection(channels, key_channels)
        self.value = ConvNormAct(channels, key_channels, kernel=1)
        self.out = ConvNormAct(key_channels, channels, kernel=1)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Return the context of each pixel, [N, channels, H, W]."""
        query = self.query(features).flatten(2)
        key, value = self.key(regions).flatten(2), self.value(regions).flatten(2)
        affinity = torch.einsum("ndp,ndc->npc", query, key) * key.shape[1] ** -0.5
        context = torch.einsum("npc,ndc->ndp", affinity.softmax(dim=2), value)
        read: Tensor = self.out(context.reshape(context.shape[:2] + features.shape[-2:]))
        return read


class OCRHead(nn.Module):
    """Pixel features, region vectors, their attention, and a classifier on both.

    Args:
        in_channels: Channels of the features.
        num_classes: Output channels.
        channels: Channels of pixels and regions.
        key_channels: Channels inside the attention.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: int = CHANNELS,
        key_channels: int = KEY_CHANNELS,
    ) -> None:
        super().__init__()
        self.pixels = ConvNormAct(in_channels, channels)
        self.attention = ObjectAttention(channels, key_channels)
        self.join = ConvNormAct(2 * channels, channels, kernel=1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """Return scores [N, C, H, W] of features and the coarse scores of the same size."""
        pixels = self.pixels(features)
        context = self.attention(pixels, gather_regions(pixels, coarse))
        scores: Tensor = self.classifier(self.join(torch.cat([context, pixels], dim=1)))
        return scores


class OCRNet(SemanticModel):
    """A network of stride 4, a coarse head that is also the auxiliary one, the OCR head.

    Args:
        num_classes: Output channels.
        network: Gives features at stride 4.
        head: Options of ``OCRHead``.
    """

    def __init__(self, num_classes: int, *, network: HRNetV2, **head: int) -> None:
        super().__init__(num_classes, aux_weight=0.4)
        self.backbone = network
        self.coarse = fcn_head(network.channels, num_classes)
        self.head = OCRHead(network.channels, num_classes, **head)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` in training."""
        features = self.backbone(images)
        coarse = self.coarse(features)
        logits = self.head(features, coarse)
        outputs: dict[str, Any] = {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}
        if self.training:
            outputs["aux"] = [coarse]
        return outputs


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(in_channels, out_channels, kernel=1),
        ConvNormAct(out_channels, out_channels, kernel=1),
    )


@register_model("ocrnet_hrnet_w18", display_name="OCRNet (HRNetV2-W18)", backbone="hrnet_w18")
def ocrnet_hrnet_w18(num_classes: int, *, backbone_weights: str = "none") -> OCRNet:
    """Return OCRNet on HRNetV2-W18: 12,080,036 parameters at 19 classes."""
    return OCRNet(num_classes, network=hrnet(18, weights=backbone_weights))


@register_model("ocrnet_hrnet_w48", display_name="OCRNet (HRNetV2-W48)", backbone="hrnet_w48")
def ocrnet_hrnet_w48(num_classes: int, *, backbone_weights: str = "none") -> OCRNet:
    """Return OCRNet on HRNetV2-W48: 70,371,446 parameters at 19 classes."""
    return OCRNet(num_classes, network=hrnet(48, weights=backbone_weights))


@register_model("ocrnet_tiny", display_name="OCRNet (tiny)", size="tiny")
def ocrnet_tiny(num_classes: int, *, width: int = 24) -> OCRNet:
    """Return a small OCRNet for a CPU."""
    return OCRNet(num_classes, network=tiny_network(width), channels=48, key_channels=24)
