"""Fully convolutional networks.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation",
CVPR 2015 (arXiv 1411.4038), as in the authors' Caffe definitions: the image is padded by
100 pixels, pooling rounds up, maps are aligned by crops with fixed offsets, scores of the
finer pools are added, and every upsampler is a fixed bilinear transposed convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from segbench.layers.bilinear import bilinear_upsampling
from segbench.layers.conv import resize
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.layers.vgg import VGG16_STAGES
from segbench.models.backbones import Backbone
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.tiny_trunk import coarse_to_fine, lite0_trunk
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import register_model

PAPER = "Fully Convolutional Networks for Semantic Segmentation"
YEAR = 2015
TASK = "semantic"

PADDING = 100
"""Pixels of zeros round the image, so that fc6 sees 7x7 features at every image size."""


class FullyConvolutionalVGG16(nn.Module):
    """VGG-16 with fc6 and fc7 as convolutions; features of pool3, pool4 and fc7.

    Args:
        weights: ``none``, ``imagenet`` or a safetensors file, see ``fill_vgg16``.
    """

    def __init__(self, *, weights: str = "none") -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        channels = 3
        for index, (width, depth) in enumerate(VGG16_STAGES):
            padding = PADDING if index == 0 else 1
            self.stages.append(_vgg_stage(channels, width, depth=depth, first_padding=padding))
            channels = width
        fc6, fc7 = nn.Conv2d(512, 4096, 7), nn.Conv2d(4096, 4096, 1)
        self.fc6 = nn.Sequential(fc6, nn.ReLU(inplace=True), nn.Dropout())
        self.fc7 = nn.Sequential(fc7, nn.ReLU(inplace=True), nn.Dropout())
        fill_vgg16(weights, self.stages, fc6, fc7)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``pool3`` (256 channels, stride 8), ``pool4`` (512, 16), ``fc7`` (4096, 32)."""
        features, pools = images, []
        for stage in self.stages:
            features = stage(features)
            pools.append(features)
        return {"pool3": pools[2], "pool4": pools[3], "fc7": self.fc7(self.fc6(features))}


class FCN(SemanticModel):
    """FCN-32s, -16s or -8s: one score map, upsampled and added to those of finer pools.

    Args:
        num_classes: Classes, background included.
        output_stride: 32, 16 or 8: the finest features that get a score.
        pool_scales: Factors on pool4 and pool3 before they are scored; other than 1 when
            all of FCN-8s is trained at once.
        backbone_weights: ``none`` or ``imagenet`` or a safetensors file, for VGG-16.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        output_stride: int,
        pool_scales: tuple[float, float] = (1.0, 1.0),
        backbone_weights: str = "none",
    ) -> None:
        super().__init__(num_classes)
        self.output_stride = output_stride
        self.pool_scales = pool_scales
        self.backbone = FullyConvolutionalVGG16(weights=backbone_weights)
        self.score_fr = _zero_score(4096, num_classes)
        if output_stride <= 16:
            self.upscore2 = bilinear_upsampling(num_classes, factor=2)
            self.score_pool4 = _zero_score(512, num_classes)
        if output_stride == 8:
            self.upscore_pool4 = bilinear_upsampling(num_classes, factor=2)
            self.score_pool3 = _zero_score(256, num_classes)
        self.upscore = bilinear_upsampling(num_classes, factor=output_stride)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.backbone(images)
        scores = self.score_fr(features["fc7"])
        if self.output_stride <= 16:
            scores = self.upscore2(scores)
            fine = self.score_pool4(features["pool4"] * self.pool_scales[0])
            scores = scores + _crop(fine, scores, offset=5)
        if self.output_stride == 8:
            scores = self.upscore_pool4(scores)
            fine = self.score_pool3(features["pool3"] * self.pool_scales[1])
            scores = scores + _crop(fine, scores, offset=9)
        offset = {32: 19, 16: 27, 8: 31}[self.output_stride]
        return {"logits": _crop(self.upscore(scores), images, offset=offset)}


class TinyFCN(SemanticModel):
    """The skip architecture on a small residual trunk: scores of all strides, summed.

    Scores are upsampled by two and added, from the coarsest to stride 2, then resized to the
    image; there is no decoder beyond the sums.

    Args:
        num_classes: Output channels.
        width: Channels at stride 4 of the trunk that is made where none is given.
        trunk: Gives features of several strides; a small one of strides 2 to 16 by default.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 48,
        trunk: ResidualTrunk | Backbone | None = None,
    ) -> None:
        super().__init__(num_classes)
        self.trunk = trunk or ResidualTrunk(width)
        self.scores = nn.ModuleDict(
            {name: nn.Conv2d(c, num_classes, 1) for name, c in self.trunk.channels.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        logits = self.summed_scores(images)
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}

    def summed_scores(self, images: Tensor) -> Tensor:
        """Return scores [N, C, H / 2, W / 2]."""
        return coarse_to_fine(self.scores, self.trunk(images))

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the trunk."""
        yield from self.trunk.parameters()


def _vgg_stage(in_channels: int, width: int, *, depth: int, first_padding: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(depth):
        padding = first_padding if index == 0 else 1
        channels = in_channels if index == 0 else width
        layers += [nn.Conv2d(channels, width, 3, padding=padding), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))


def _zero_score(in_channels: int, num_classes: int) -> nn.Conv2d:
    score = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.zeros_(score.weight)
    if score.bias is not None:
        nn.init.zeros_(score.bias)
    return score


def _crop(maps: Tensor, like: Tensor, *, offset: int) -> Tensor:
    height, width = like.shape[-2:]
    return maps[..., offset : offset + height, offset : offset + width]


@register_model("fcn_32s", display_name="FCN-32s", backbone="vgg16")
def fcn_32s(num_classes: int, **options: Any) -> FCN:
    """Return FCN-32s: 136,152,917 parameters at 21 classes."""
    return FCN(num_classes, output_stride=32, **options)


@register_model("fcn_16s", display_name="FCN-16s", backbone="vgg16")
def fcn_16s(num_classes: int, **options: Any) -> FCN:
    """Return FCN-16s: 134,815,994 parameters at 21 classes."""
    return FCN(num_classes, output_stride=16, **options)


@register_model("fcn_8s", display_name="FCN-8s", backbone="vgg16")
def fcn_8s(num_classes: int, **options: Any) -> FCN:
    """Return FCN-8s: 134,489,759 parameters at 21 classes."""
    return FCN(num_classes, output_stride=8, **options)


@register_model("fcn_8s_at_once", year=2016, display_name="FCN-8s at once", backbone="vgg16")
def fcn_8s_at_once(num_classes: int, **options: Any) -> FCN:
    """Return FCN-8s with scaled pools, to be trained in one stage instead of three."""
    return FCN(num_classes, output_stride=8, pool_scales=(0.01, 0.0001), **options)


@register_model("fcn_tiny", display_name="FCN (tiny)", backbone="residual_trunk", size="tiny")
def fcn_tiny(num_classes: int, *, width: int = 48) -> TinyFCN:
    """Return a small FCN for a CPU."""
    return TinyFCN(num_classes, width=width)


@register_model(
    "fcn_efficientnet_lite0", display_name="FCN (EfficientNet-Lite0)", backbone="efficientnet_lite0"
)
def fcn_efficientnet_lite0(num_classes: int, *, backbone_weights: str = "none") -> TinyFCN:
    """Return the skip architecture on EfficientNet-Lite0: scores of strides 32 to 2, summed."""
    return TinyFCN(num_classes, trunk=lite0_trunk(backbone_weights, output_stride=32))
