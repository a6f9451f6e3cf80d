"""PSPNet.

Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", CVPR 2017 (arXiv 1612.01105).
The reference is the authors' PyTorch repository (semseg): a ResNet whose stem has three
convolutions (64, 64, 128), output stride 8 with the first blocks of the dilated stages dilated
too, pyramid bins 1, 2, 3 and 6 of 512 channels each, corners aligned in every resize, and an
auxiliary head on the fourth stage with weight 0.4: 49,080,038 (ResNet-50) and 68,072,166
(ResNet-101) parameters at 19 classes. The options reach mmsegmentation's form.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segbench.layers.conv import ConvNormAct, resize
from segbench.layers.pyramid_pooling import PyramidPooling
from segbench.models.backbones import ResNetForm, create_resnet
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.tiny_trunk import WIDTH, TinyNetwork, lite0_trunk
from segbench.models.registry import register_model

PAPER = "Pyramid Scene Parsing Network"
YEAR = 2017
TASK = "semantic"
MIN_BATCH = 2

DROPOUT = 0.1


class PSPHead(nn.Sequential):
    """Pyramid pooling, 3x3 convolution, dropout, classifier."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 512,
        dropout: float = DROPOUT,
        align_corners: bool = True,
    ) -> None:
        pyramid = PyramidPooling(in_channels, align_corners=align_corners)
        super().__init__(
            pyramid,
            ConvNormAct(pyramid.out_channels, width),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, num_classes, 1),
        )


class PSPNet(SemanticModel):
    """Dilated ResNet, pyramid head, auxiliary head on the stage before the last.

    Args:
        num_classes: Output channels.
        backbone: A ResNet of ``segbench.models.backbones``.
        backbone_weights: ``none`` or a safetensors file.
        first_dilation: ``own`` (semseg) or ``previous`` (mmsegmentation), see ``ResNetForm``.
        align_corners: In the pyramid and the last resize; mmsegmentation does not.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str,
        backbone_weights: str = "none",
        first_dilation: str = "own",
        align_corners: bool = True,
    ) -> None:
        super().__init__(num_classes, aux_weight=0.4)
        self.align_corners = align_corners
        self.backbone = create_resnet(
            backbone,
            weights=backbone_weights,
            output_stride=8,
            form=ResNetForm(first_dilation=first_dilation),
        )
        deep = self.backbone.channels["stride8"]
        self.head = PSPHead(deep, num_classes, align_corners=align_corners)
        self.aux_head = nn.Sequential(
            ConvNormAct(deep // 2, 256), nn.Dropout2d(DROPOUT), nn.Conv2d(256, num_classes, 1)
        )

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` in training."""
        stages = self.backbone.stages(images)
        size = (images.shape[-2], images.shape[-1])
        logits = resize(self.head(stages[-1]), size, align_corners=self.align_corners)
        outputs: dict[str, Any] = {"logits": logits}
        if self.training:
            outputs["aux"] = [self.aux_head(stages[-2])]
        return outputs


@register_model("pspnet_resnet50", display_name="PSPNet (ResNet-50)", backbone="resnet50_v1s")
def pspnet_resnet50(num_classes: int, *, backbone: str = "resnet50_v1s", **options: Any) -> PSPNet:
    """Return PSPNet on ResNet-50: 49,080,038 parameters at 19 classes."""
    return PSPNet(num_classes, backbone=backbone, **options)


@register_model("pspnet_resnet101", display_name="PSPNet (ResNet-101)", backbone="resnet101_v1s")
def pspnet_resnet101(
    num_classes: int, *, backbone: str = "resnet101_v1s", **options: Any
) -> PSPNet:
    """Return PSPNet on ResNet-101: 68,072,166 parameters at 19 classes."""
    return PSPNet(num_classes, backbone=backbone, **options)


@register_model("pspnet_tiny", display_name="PSPNet (tiny)", backbone="residual_trunk", size="tiny")
def pspnet_tiny(num_classes: int, *, width: int = WIDTH) -> TinyNetwork:
    """Return a small PSPNet for a CPU."""

    def head(channels: int) -> nn.Module:
        return PSPHead(channels, num_classes, width=2 * width, dropout=0.0)

    return TinyNetwork(num_classes, head=head, width=width)


@register_model(
    "pspnet_efficientnet_lite0",
    display_name="PSPNet (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def pspnet_efficientnet_lite0(num_classes: int, *, backbone_weights: str = "none") -> TinyNetwork:
    """Return a narrow PSPNet head on EfficientNet-Lite0, with scores of strides 8 and 4."""

    def head(channels: int) -> nn.Module:
        return PSPHead(channels, num_classes, width=128)

    return TinyNetwork(num_classes, head=head, trunk=lite0_trunk(backbone_weights))
