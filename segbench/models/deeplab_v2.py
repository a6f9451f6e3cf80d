"""DeepLab v1 and v2.

Chen, Papandreou, Kokkinos, Murphy and Yuille, "Semantic Image Segmentation with Deep
Convolutional Nets and Fully Connected CRFs", ICLR 2015 (arXiv 1412.7062), and "DeepLab:
Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs", TPAMI 2018 (arXiv 1606.00915). Pooling without stride and dilated convolutions
keep features at stride 8; v2 reads them with four dilated convolutions whose scores are
*summed*. The reference of the ResNet-101 forms is the public port (kazuto1011), which has the
strides, the pooling and the dilations of the Caffe network: ``deeplab_v1`` is one 1x1 classifier on
it; ``deeplab_v1_vgg16`` is the paper's LargeFOV. The dense CRF is a step of its own, after
prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segbench.layers.conv import resize
from segbench.layers.vgg import DILATED_VGG16_STAGES, conv_relu
from segbench.models.backbones import CAFFE_FORM, create_resnet
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.tiny_trunk import WIDTH, TinyNetwork, lite0_trunk
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import register_model

PAPER = "DeepLab: Semantic Image Segmentation with Atrous Convolution and Fully Connected CRFs"
YEAR = 2016
TASK = "semantic"
DEEPLAB_V1 = "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs"

LARGE_FOV = 12
"""Dilation of fc6 in v1."""
RATES = (6, 12, 18, 24)
"""Dilations of the four branches of v2."""
VGG_POOL_STRIDES = (2, 2, 2, 1, 1)


class SummedPyramid(nn.Module):
    """Dilated 3x3 convolutions straight to the classes, added up."""

    def __init__(self, in_channels: int, num_classes: int, *, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            _small(branch)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores [N, num_classes, H, W]."""
        return torch.stack([branch(features) for branch in self.branches]).sum(0)


class DilatedVGG16(nn.Module):
    """VGG-16's convolutions at stride 8: pooling 3x3, the last two without stride.

    Args:
        weights: ``none``, ``imagenet`` or a safetensors file, see ``fill_vgg16``.
    """

    def __init__(self, *, weights: str = "none") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for (width, depth, dilation), stride in zip(
            DILATED_VGG16_STAGES, VGG_POOL_STRIDES, strict=True
        ):
            for _ in range(depth):
                layers.append(conv_relu(channels, width, dilation=dilation))
                channels = width
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.features = nn.Sequential(*layers, nn.AvgPool2d(3, 1, padding=1))
        fill_vgg16(weights, self.features)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, 512, H / 8, W / 8]."""
        features: Tensor = self.features(images)
        return features


class DeepLab(SemanticModel):
    """A network of stride 8 and a head that turns its features into scores.

    Args:
        num_classes: Output channels.
        backbone: Gives features of one stride.
        head: Turns them into scores.
    """

    def __init__(self, num_classes: int, *, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__(num_classes)
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.backbone(images)
        if isinstance(features, dict):
            features = features["stride8"]
        return {"logits": resize(self.head(features), (images.shape[-2], images.shape[-1]))}


def _small(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)


def _fully_connected(num_classes: int, rate: int) -> nn.Sequential:
    """Return fc6 as a dilated 3x3, fc7 and the classifier as 1x1 convolutions."""
    return nn.Sequential(
        conv_relu(512, 1024, dilation=rate),
        nn.Dropout(0.5),
        conv_relu(1024, 1024, kernel=1),
        nn.Dropout(0.5),
        nn.Conv2d(1024, num_classes, 1),
    )


def _caffe_resnet101(weights: str) -> nn.Module:
    """Return the ResNet-101 of the port: Caffe's strides and pooling, every 3x3 dilated."""
    return create_resnet("resnet101", weights=weights, output_stride=8, form=CAFFE_FORM)


class SummedHeads(nn.ModuleList):
    """Several heads on the same features, their scores added up."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the sum of the scores, [N, C, H, W]."""
        return torch.stack([head(features) for head in self]).sum(0)


@register_model(
    "deeplab_v1",
    paper=DEEPLAB_V1,
    year=2015,
    display_name="DeepLab v1 (ResNet-101)",
    backbone="resnet101",
)
def deeplab_v1(num_classes: int, *, backbone_weights: str = "none") -> DeepLab:
    """Return the port's v1 on ResNet-101: 42,543,189 parameters at 21 classes."""
    backbone = _caffe_resnet101(backbone_weights)
    return DeepLab(num_classes, backbone=backbone, head=nn.Conv2d(2048, num_classes, 1))


@register_model(
    "deeplab_v1_vgg16",
    paper=DEEPLAB_V1,
    year=2015,
    display_name="DeepLab v1 (LargeFOV)",
    backbone="vgg16",
)
def deeplab_v1_vgg16(num_classes: int, *, backbone_weights: str = "none") -> DeepLab:
    """Return the paper's DeepLab-LargeFOV: fc6 is a 3x3 of dilation 12 with 1024 channels."""
    head = _fully_connected(num_classes, LARGE_FOV)
    return DeepLab(num_classes, backbone=DilatedVGG16(weights=backbone_weights), head=head)


@register_model("deeplab_v2_vgg16", display_name="DeepLab v2 (VGG-16)", backbone="vgg16")
def deeplab_v2_vgg16(num_classes: int, *, backbone_weights: str = "none") -> DeepLab:
    """Return DeepLab-ASPP on VGG-16: four branches of fc6, fc7 and fc8, summed."""
    head = SummedHeads(_fully_connected(num_classes, rate) for rate in RATES)
    return DeepLab(num_classes, backbone=DilatedVGG16(weights=backbone_weights), head=head)


@register_model(
    "deeplab_v2_resnet101", display_name="DeepLab v2 (ResNet-101)", backbone="resnet101"
)
def deeplab_v2_resnet101(num_classes: int, *, backbone_weights: str = "none") -> DeepLab:
    """Return DeepLab v2 on ResNet-101: 44,048,532 parameters at 21 classes."""
    backbone = _caffe_resnet101(backbone_weights)
    head = SummedPyramid(2048, num_classes, rates=RATES)
    return DeepLab(num_classes, backbone=backbone, head=head)


@register_model(
    "deeplab_v2_tiny", display_name="DeepLab v2 (tiny)", backbone="residual_trunk", size="tiny"
)
def deeplab_v2_tiny(num_classes: int, *, width: int = WIDTH) -> TinyNetwork:
    """Return a small DeepLab v2 for a CPU."""

    def head(channels: int) -> nn.Module:
        return SummedPyramid(channels, num_classes, rates=(1, 2, 3, 4))

    return TinyNetwork(num_classes, head=head, width=width)


@register_model(
    "deeplab_v2_efficientnet_lite0",
    display_name="DeepLab v2 (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def deeplab_v2_efficientnet_lite0(
    num_classes: int, *, backbone_weights: str = "none"
) -> TinyNetwork:
    """Return DeepLab v2's summed pyramid on EfficientNet-Lite0, stride 16: half its dilations."""

    def head(channels: int) -> nn.Module:
        return SummedPyramid(channels, num_classes, rates=[rate // 2 for rate in RATES])

    return TinyNetwork(num_classes, head=head, trunk=lite0_trunk(backbone_weights))
