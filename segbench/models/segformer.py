"""SegFormer: a Mix Transformer and a head of linear layers.

Xie, Wang, Yu, Anandkumar, Alvarez and Luo, "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", NeurIPS 2021 (arXiv 2105.15203). Counts follow the authors' form
(linear layers with bias to 256 channels for B0 and B1, 768 from B2 on, and one fusing
convolution with BatchNorm): 3,752,694 (B0), 27,461,974 (B2) and 84,708,694 (B5) parameters at
150 classes. mmsegmentation's form has 256 channels throughout and BatchNorm in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segbench.layers.conv import ConvNormAct, resize
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.mix_transformer import MiT, create_mit
from segbench.models.registry import register_model

PAPER = "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers"
YEAR = 2021
TASK = "semantic"

DROPOUT = 0.1


class SegFormerHead(nn.Module):
    """Every map through a linear layer, enlarged to the finest, joined by a 1x1 convolution.

    Args:
        channels: Channels of the maps, finest first.
        num_classes: Output channels.
        width: Channels of the linear layers.
        dropout: Probability before the classifier.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, *, width: int, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.join = ConvNormAct(len(channels) * width, width, kernel=1)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return scores [N, C, H, W] at the size of the finest of ``maps``."""
        size = (maps[0].shape[-2], maps[0].shape[-1])
        levels = [
            resize(project(features), size)
            for project, features in zip(self.project, maps, strict=True)
        ]
        scores: Tensor = self.classifier(self.join(torch.cat(levels[::-1], dim=1)))
        return scores


class SegFormer(SemanticModel):
    """A Mix Transformer and the head on its four maps.

    Args:
        num_classes: Output channels.
        backbone: The Mix Transformer.
        width: Channels of the head.
        dropout: Probability before the classifier.
    """

    def __init__(
        self, num_classes: int, *, backbone: MiT, width: int, dropout: float = DROPOUT
    ) -> None:
        super().__init__(num_classes)
        self.backbone = backbone
        channels = list(backbone.channels.values())
        self.head = SegFormerHead(channels, num_classes, width=width, dropout=dropout)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        scores = self.head(list(self.backbone(images).values()))
        return {"logits": resize(scores, (images.shape[-2], images.shape[-1]))}


def _segformer(
    num_classes: int,
    name: str,
    *,
    width: int,
    backbone_weights: str = "none",
    drop_path: float = 0.1,
) -> SegFormer:
    backbone = create_mit(name, weights=backbone_weights, drop_path=drop_path)
    return SegFormer(num_classes, backbone=backbone, width=width)


@register_model("segformer_b0", display_name="SegFormer-B0", backbone="mit_b0")
def segformer_b0(num_classes: int, **options: Any) -> SegFormer:
    """Return SegFormer-B0: 3,752,694 parameters at 150 classes."""
    return _segformer(num_classes, "mit_b0", width=256, **options)


@register_model("segformer_b1", display_name="SegFormer-B1", backbone="mit_b1")
def segformer_b1(num_classes: int, **options: Any) -> SegFormer:
    """Return SegFormer-B1: 13,715,798 parameters at 150 classes."""
    return _segformer(num_classes, "mit_b1", width=256, **options)


@register_model("segformer_b2", display_name="SegFormer-B2", backbone="mit_b2")
def segformer_b2(num_classes: int, **options: Any) -> SegFormer:
    """Return SegFormer-B2: 27,461,974 parameters at 150 classes."""
    return _segformer(num_classes, "mit_b2", width=768, **options)


@register_model("segformer_b3", display_name="SegFormer-B3", backbone="mit_b3")
def segformer_b3(num_classes: int, **options: Any) -> SegFormer:
    """Return SegFormer-B3: 47,337,814 parameters at 150 classes."""
    return _segformer(num_classes, "mit_b3", width=768, **options)


@register_model("segformer_b4", display_name="SegFormer-B4", backbone="mit_b4")
def segformer_b4(num_classes: int, **options: Any) -> SegFormer:
    """Return SegFormer-B4: 64,108,374 parameters at 150 classes."""
    return _segformer(num_classes, "mit_b4", width=768, **options)


@register_model("segformer_b5", display_name="SegFormer-B5", backbone="mit_b5")
def segformer_b5(num_classes: int, **options: Any) -> SegFormer:
    """Return SegFormer-B5: 84,708,694 parameters at 150 classes."""
    return _segformer(num_classes, "mit_b5", width=768, **options)


@register_model("segformer_tiny", display_name="SegFormer (tiny)", backbone="mit_tiny", size="tiny")
def segformer_tiny(num_classes: int, *, width: int = 64) -> SegFormer:
    """Return a small SegFormer for a CPU, on maps of strides 2 to 16."""
    return SegFormer(num_classes, backbone=create_mit("mit_tiny"), width=width, dropout=0.0)
