"""UPerNet: a feature pyramid whose coarsest level is a pyramid of pooled grids.

Xiao, Liu, Zhou, Jiang and Sun, "Unified Perceptual Parsing for Scene Understanding", ECCV 2018
(arXiv 1807.10221), the semantic head. Counts follow mmsegmentation, with the auxiliary head on
the third stage (weight 0.4), at 150 classes: ResNet-50 (three convolutions in its stem)
66,516,108; Swin T/S/B/L 59,941,862, 81,259,766, 121,279,716 (windows of 7) and 233,962,976
(windows of 12); ConvNeXt T/S/B/L/XL 60,242,636, 81,877,196, 122,102,956, 234,994,796 and
391,140,396. ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s",
CVPR 2022 (arXiv 2201.03545).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from segbench.layers.conv import ConvNormAct, resize
from segbench.layers.pyramid_pooling import PyramidPooling
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models.backbones import Backbone, create_backbone, create_resnet
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.swin import OutputNorms, create_swin
from segbench.models.parts.tiny_trunk import WIDTH
from segbench.models.registry import register_model

PAPER = "Unified Perceptual Parsing for Scene Understanding"
YEAR = 2018
TASK = "semantic"
MIN_BATCH = 2
SWIN = "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows"
CONVNEXT = "A ConvNet for the 2020s"

LEVELS = 4
DROPOUT = 0.1


class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest of four maps, a top-down pyramid, all levels joined.

    Args:
        channels: Channels of the maps, finest first.
        num_classes: Output channels.
        width: Channels of every level.
        dropout: Probability before the classifier.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 512,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        *finer, deepest = channels
        pyramid = PyramidPooling(deepest, width)
        self.top = nn.Sequential(pyramid, ConvNormAct(pyramid.out_channels, width))
        self.lateral = nn.ModuleList(ConvNormAct(c, width, kernel=1) for c in finer)
        self.smooth = nn.ModuleList(ConvNormAct(width, width) for _ in finer)
        self.join = ConvNormAct(len(channels) * width, width)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return scores [N, C, H, W] at the size of the finest of ``maps``."""
        levels = [self.top(maps[-1])]
        for lateral, features in zip(reversed(self.lateral), reversed(maps[:-1]), strict=True):
            finer = lateral(features)
            levels.insert(0, finer + resize(levels[0], _size(finer)))
        smooth = [layer(level) for layer, level in zip(self.smooth, levels[:-1], strict=True)]
        size = _size(levels[0])
        joined = self.join(torch.cat([resize(m, size) for m in (*smooth, levels[-1])], dim=1))
        scores: Tensor = self.classifier(joined)
        return scores


class UPerNet(SemanticModel):
    """A backbone, the head on its four deepest maps, an auxiliary head on the one but last.

    Args:
        num_classes: Output channels.
        backbone: Gives at least four maps by stride.
        width: Channels of the head's levels.
        aux_width: Channels of the auxiliary head.
        dropout: Probability before both classifiers.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: Backbone | ResidualTrunk,
        width: int = 512,
        aux_width: int = 256,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__(num_classes, aux_weight=0.4)
        self.backbone = backbone
        self.names = list(backbone.channels)[-LEVELS:]
        channels = [backbone.channels[name] for name in self.names]
        self.head = UPerHead(channels, num_classes, width=width, dropout=dropout)
        self.aux_head = nn.Sequential(
            ConvNormAct(channels[-2], aux_width),
            nn.Dropout2d(dropout),
            nn.Conv2d(aux_width, num_classes, 1),
        )

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` in training."""
        features = self.backbone(images)
        maps = [features[name] for name in self.names]
        outputs: dict[str, Any] = {"logits": resize(self.head(maps), _size(images))}
        if self.training:
            outputs["aux"] = [self.aux_head(maps[-2])]
        return outputs

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the pretrained parameters; norms of the maps are new and belong to the head."""
        trained = self.backbone.body if isinstance(self.backbone, OutputNorms) else self.backbone
        yield from trained.parameters()

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """Return the layers that ``layer_decay`` tells apart, first to last."""
        return self.backbone.layers() if isinstance(self.backbone, Backbone) else []


def convnext(name: str, *, weights: str, drop_path: float) -> OutputNorms:
    """Return timm's ConvNeXt with output norms.

    Args:
        name: timm's name.
        weights: ``none``, ``imagenet`` or the path of a safetensors file.
        drop_path: Probability at which the last block is left out in training; it rises from 0
            at the first.
    """
    body = create_backbone(name, weights=weights)
    blocks = [module for module in body.modules() if isinstance(module, ConvNeXtBlock)]
    for index, block in enumerate(blocks):
        block.drop_path = StochasticDepth(drop_path * index / (len(blocks) - 1), "row")
    return OutputNorms(body, eps=1e-6)


def _size(features: Tensor) -> tuple[int, int]:
    return features.shape[-2], features.shape[-1]


def _on_swin(
    num_classes: int, name: str, *, backbone_weights: str = "none", drop_path: float = 0.3
) -> UPerNet:
    swin = create_swin(name, weights=backbone_weights, drop_path=drop_path)
    return UPerNet(num_classes, backbone=OutputNorms(swin))


def _on_convnext(
    num_classes: int, name: str, *, backbone_weights: str = "none", drop_path: float = 0.4
) -> UPerNet:
    backbone = convnext(name, weights=backbone_weights, drop_path=drop_path)
    return UPerNet(num_classes, backbone=backbone)


@register_model("upernet_resnet50", display_name="UPerNet (ResNet-50)", backbone="resnet50_v1c")
def upernet_resnet50(num_classes: int, *, backbone_weights: str = "none") -> UPerNet:
    """Return UPerNet on ResNet-50: 66,516,108 parameters at 150 classes."""
    return UPerNet(num_classes, backbone=create_resnet("resnet50_v1c", weights=backbone_weights))


@register_model(
    "upernet_swin_t", paper=SWIN, year=2021, display_name="UPerNet (Swin-T)", backbone="swin_t"
)
def upernet_swin_t(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on Swin-T: 59,941,862 parameters at 150 classes, windows of 7."""
    return _on_swin(num_classes, "swin_t", **options)


@register_model(
    "upernet_swin_s", paper=SWIN, year=2021, display_name="UPerNet (Swin-S)", backbone="swin_s"
)
def upernet_swin_s(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on Swin-S: 81,259,766 parameters at 150 classes, windows of 7."""
    return _on_swin(num_classes, "swin_s", **options)


@register_model(
    "upernet_swin_b", paper=SWIN, year=2021, display_name="UPerNet (Swin-B)", backbone="swin_b"
)
def upernet_swin_b(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on Swin-B: 121,279,716 parameters at 150 classes, windows of 7."""
    return _on_swin(num_classes, "swin_b", **options)


@register_model(
    "upernet_swin_l", paper=SWIN, year=2021, display_name="UPerNet (Swin-L)", backbone="swin_l"
)
def upernet_swin_l(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on Swin-L: 233,962,976 parameters at 150 classes, windows of 12."""
    return _on_swin(num_classes, "swin_l", **options)


@register_model(
    "upernet_convnext_t",
    paper=CONVNEXT,
    year=2022,
    display_name="UPerNet (ConvNeXt-T)",
    backbone="convnext_tiny",
)
def upernet_convnext_t(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on ConvNeXt-T: 60,242,636 parameters at 150 classes."""
    return _on_convnext(num_classes, "convnext_tiny", **options)


@register_model(
    "upernet_convnext_s",
    paper=CONVNEXT,
    year=2022,
    display_name="UPerNet (ConvNeXt-S)",
    backbone="convnext_small",
)
def upernet_convnext_s(num_classes: int, *, drop_path: float = 0.3, **options: Any) -> UPerNet:
    """Return UPerNet on ConvNeXt-S: 81,877,196 parameters at 150 classes."""
    return _on_convnext(num_classes, "convnext_small", drop_path=drop_path, **options)


@register_model(
    "upernet_convnext_b",
    paper=CONVNEXT,
    year=2022,
    display_name="UPerNet (ConvNeXt-B)",
    backbone="convnext_base",
)
def upernet_convnext_b(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on ConvNeXt-B: 122,102,956 parameters at 150 classes."""
    return _on_convnext(num_classes, "convnext_base", **options)


@register_model(
    "upernet_convnext_l",
    paper=CONVNEXT,
    year=2022,
    display_name="UPerNet (ConvNeXt-L)",
    backbone="convnext_large",
)
def upernet_convnext_l(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on ConvNeXt-L: 234,994,796 parameters at 150 classes."""
    return _on_convnext(num_classes, "convnext_large", **options)


@register_model(
    "upernet_convnext_xl",
    paper=CONVNEXT,
    year=2022,
    display_name="UPerNet (ConvNeXt-XL)",
    backbone="convnext_xlarge",
)
def upernet_convnext_xl(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on ConvNeXt-XL: 391,140,396 parameters at 150 classes."""
    return _on_convnext(num_classes, "convnext_xlarge", **options)


@register_model(
    "upernet_tiny", display_name="UPerNet (tiny)", backbone="residual_trunk", size="tiny"
)
def upernet_tiny(num_classes: int, *, width: int = WIDTH) -> UPerNet:
    """Return a small UPerNet for a CPU, on maps of strides 2 to 16."""
    trunk = ResidualTrunk(width)
    return UPerNet(num_classes, backbone=trunk, width=width, aux_width=width, dropout=0.0)
