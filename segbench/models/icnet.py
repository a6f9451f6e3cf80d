"""ICNet.

Zhao, Qi, Shen, Shi and Jia, "ICNet for Real-Time Semantic Segmentation on High-Resolution
Images", ECCV 2018 (arXiv 1704.08545). The image at quarter size goes through a deep network,
at half size through its first stages, at full size through three convolutions; a cascade fuses
them. ``icnet`` is the authors' released Caffe network: a PSPNet-50 of half the width whose
pyramid is *summed*, 6,699,987 parameters at 19 classes without the classifiers of the
guidance. ``icnet_resnet50`` follows mmsegmentation, which concatenates the pyramid, with both
guidance heads: 47,827,833 parameters at 19 classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.bottleneck import Bottleneck
from segbench.layers.conv import ConvNormAct, conv_norm, resize
from segbench.layers.pyramid_pooling import BINS, PyramidPooling
from segbench.models.backbones import create_resnet
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "ICNet for Real-Time Semantic Segmentation on High-Resolution Images"
YEAR = 2018
TASK = "semantic"

GUIDANCE_WEIGHT = 0.4
STAGES = ((32, 128, 3, 1, 1), (64, 256, 4, 2, 1), (128, 512, 6, 1, 2), (256, 1024, 3, 1, 4))
"""Of the half-width network: inner and outer channels, blocks, stride, dilation."""


class CascadeFusion(nn.Module):
    """The coarse map doubled and convolved, plus the fine one projected."""

    def __init__(self, coarse: int, fine: int, out_channels: int = 128) -> None:
        super().__init__()
        self.coarse = conv_norm(coarse, out_channels, kernel=3, dilation=2)
        self.fine = conv_norm(fine, out_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fused map, the doubled coarse map, and that map convolved."""
        doubled = resize(coarse, (fine.shape[-2], fine.shape[-1]))
        convolved = self.coarse(doubled)
        return functional.relu(convolved + self.fine(fine)), doubled, convolved


class SummedPooling(nn.Module):
    """The features plus their means over grids of 1, 2, 3 and 6 cells; no parameters."""

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same size and width."""
        size = (features.shape[-2], features.shape[-1])
        grids = [functional.adaptive_avg_pool2d(features, bins) for bins in BINS]
        return torch.stack([features, *(resize(grid, size) for grid in grids)]).sum(0)


class HalfWidthBranch(nn.Module):
    """The deep branch as released: half-width ResNet-50, summed pyramid, 1x1 to 256."""

    shared, out_channels = 256, 256

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Sequential] = []
        channels = 64
        for inner, width, blocks, stride, dilation in STAGES:
            first = Bottleneck(channels, inner, width, stride=stride, dilation=dilation)
            rest = (Bottleneck(width, inner, width, dilation=dilation) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            channels = width
        stem = (ConvNormAct(3, 32, stride=2), ConvNormAct(32, 32), ConvNormAct(32, 64))
        pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.shallow = nn.Sequential(*stem, pool, stages[0], stages[1][0])
        self.deep = nn.Sequential(
            stages[1][1:], *stages[2:], SummedPooling(), ConvNormAct(1024, 256, kernel=1)
        )

    def forward(self, half: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of the image at half size (1/16) and at quarter size (1/32)."""
        shared = self.shallow(half)
        return shared, self.deep(_halved(shared))


class ResNetBranch(nn.Module):
    """The deep branch of mmsegmentation: ResNet, concatenated pyramid, 3x3 to 512, 1x1 to 256."""

    shared, out_channels = 256, 256

    def __init__(self, backbone: str, weights: str) -> None:
        super().__init__()
        self.backbone = create_resnet(backbone, weights=weights, output_stride=8)
        self.backbone.maxpool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        deep = self.backbone.channels["stride8"]
        pyramid = PyramidPooling(deep)
        self.pyramid = nn.Sequential(pyramid, ConvNormAct(pyramid.out_channels, 512))
        self.project_half = ConvNormAct(deep // 4, self.shared, kernel=1)
        self.project_quarter = ConvNormAct(512, self.out_channels, kernel=1)

    def forward(self, half: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of the image at half size (1/16) and at quarter size (1/32)."""
        net = self.backbone
        features = net.maxpool(net.relu(net.bn1(net.conv1(half))))
        features = net.layer2(net.layer1(features))
        deep = self.pyramid(net.layer4(net.layer3(_halved(features))))
        return self.project_half(features), self.project_quarter(deep)


class ICNet(SemanticModel):
    """Three branches, two cascade fusions, a classifier, and classifiers that guide the cascade.

    Args:
        num_classes: Output channels.
        branch: The deep branch; gives features at 1/16 and 1/32.
        classifier: Turns 128 channels into scores.
        guidance: Classifiers on the two coarse maps, used in training only.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        branch: HalfWidthBranch | ResNetBranch,
        classifier: nn.Module,
        guidance: nn.ModuleList | None,
        on_convolved: bool,
    ) -> None:
        super().__init__(num_classes, aux_weight=GUIDANCE_WEIGHT)
        self.branch = branch
        self.full = nn.Sequential(
            ConvNormAct(3, 32, stride=2),
            ConvNormAct(32, 32, stride=2),
            ConvNormAct(32, 64, stride=2),
        )
        self.fuse_quarter = CascadeFusion(branch.out_channels, branch.shared)
        self.fuse_half = CascadeFusion(128, 64)
        self.classifier = classifier
        self.guidance = guidance
        self.on_convolved = on_convolved

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` in training."""
        half, quarter = self.branch(_halved(images))
        fused, *coarse = self.fuse_quarter(quarter, half)
        fused, *middle = self.fuse_half(fused, self.full(images))
        doubled = resize(fused, (2 * fused.shape[-2], 2 * fused.shape[-1]))
        scores = self.classifier(fused if self.on_convolved else doubled)
        outputs: dict[str, Any] = {"logits": resize(scores, (images.shape[-2], images.shape[-1]))}
        if self.training and self.guidance is not None:
            maps = (coarse[self.on_convolved], middle[self.on_convolved])
            outputs["aux"] = [head(m) for head, m in zip(self.guidance, maps, strict=True)]
        return outputs


def _halved(images: Tensor) -> Tensor:
    return resize(images, (max(1, images.shape[-2] // 2), max(1, images.shape[-1] // 2)))


def _fcn_head(num_classes: int) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(128, 128), nn.Conv2d(128, num_classes, 1))


@register_model("icnet", display_name="ICNet")
def icnet(num_classes: int, *, guidance: bool = False) -> ICNet:
    """Return the released half-width ICNet: 6,699,987 parameters at 19 classes.

    ``guidance`` adds the classifiers of the coarse maps, with which the cascade is trained.
    """
    heads = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in (256, 128))
    return ICNet(
        num_classes,
        branch=HalfWidthBranch(),
        classifier=nn.Conv2d(128, num_classes, 1),
        guidance=heads if guidance else None,
        on_convolved=False,
    )


@register_model(
    "icnet_resnet50", display_name="ICNet (ResNet-50)", backbone="resnet50_v1c", min_batch=2
)
def icnet_resnet50(num_classes: int, *, backbone_weights: str = "none") -> ICNet:
    """Return mmsegmentation's ICNet on ResNet-50: 47,827,833 parameters at 19 classes."""
    return ICNet(
        num_classes,
        branch=ResNetBranch("resnet50_v1c", backbone_weights),
        classifier=_fcn_head(num_classes),
        guidance=nn.ModuleList(_fcn_head(num_classes) for _ in range(2)),
        on_convolved=True,
    )
