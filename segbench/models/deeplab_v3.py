"""DeepLab v3.

Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image
Segmentation", arXiv 1706.05587. Counts follow torchvision: output stride 8, pyramid dilations
12, 24 and 36, a 3x3 convolution before the classifier, and an FCN head on the stage before the
last with weight 0.5: 42,004,074 (ResNet-50) and 60,996,202 (ResNet-101) parameters at 21
classes; 178.72 and 258.74 GMACs at 520x520.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segbench.layers.aspp import ASPP
from segbench.layers.conv import ConvNormAct, resize
from segbench.models.backbones import create_resnet
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.tiny_trunk import WIDTH, TinyNetwork, lite0_trunk
from segbench.models.registry import register_model

PAPER = "Rethinking Atrous Convolution for Semantic Image Segmentation"
YEAR = 2017
TASK = "semantic"
MIN_BATCH = 2

DILATIONS = (12, 24, 36)
"""Of the pyramid at output stride 8: twice those of stride 16."""


class DeepLabV3(SemanticModel):
    """Dilated ResNet, atrous pyramid side by side, classifier, auxiliary FCN head.

    Args:
        num_classes: Output channels.
        backbone: A ResNet of ``segbench.models.backbones``.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        aux: With the auxiliary head.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str,
        backbone_weights: str = "none",
        aux: bool = True,
    ) -> None:
        super().__init__(num_classes, aux_weight=0.5)
        self.backbone = create_resnet(backbone, weights=backbone_weights, output_stride=8)
        deep = self.backbone.channels["stride8"]
        self.head = nn.Sequential(
            ASPP(deep, 256, dilations=DILATIONS),
            ConvNormAct(256, 256),
            nn.Conv2d(256, num_classes, 1),
        )
        self.aux_head = fcn_head(deep // 2, num_classes) if aux else None

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux``.

        As in torchvision, whose published MACs include it, the auxiliary head runs outside of
        training too.
        """
        stages = self.backbone.stages(images)
        size = (images.shape[-2], images.shape[-1])
        outputs: dict[str, Any] = {"logits": resize(self.head(stages[-1]), size)}
        if self.aux_head is not None:
            outputs["aux"] = [self.aux_head(stages[-2])]
        return outputs


def fcn_head(in_channels: int, num_classes: int) -> nn.Sequential:
    """Return torchvision's FCN head: a 3x3 to a quarter, dropout 0.1, 1x1 classifier."""
    inner = in_channels // 4
    return nn.Sequential(
        ConvNormAct(in_channels, inner), nn.Dropout(0.1), nn.Conv2d(inner, num_classes, 1)
    )


@register_model("deeplab_v3_resnet50", display_name="DeepLab v3 (ResNet-50)", backbone="resnet50")
def deeplab_v3_resnet50(num_classes: int, **options: Any) -> DeepLabV3:
    """Return DeepLab v3 on ResNet-50: 42,004,074 parameters at 21 classes."""
    return DeepLabV3(num_classes, backbone="resnet50", **options)


@register_model(
    "deeplab_v3_resnet101", display_name="DeepLab v3 (ResNet-101)", backbone="resnet101"
)
def deeplab_v3_resnet101(num_classes: int, **options: Any) -> DeepLabV3:
    """Return DeepLab v3 on ResNet-101: 60,996,202 parameters at 21 classes."""
    return DeepLabV3(num_classes, backbone="resnet101", **options)


@register_model(
    "deeplab_v3_tiny", display_name="DeepLab v3 (tiny)", backbone="residual_trunk", size="tiny"
)
def deeplab_v3_tiny(num_classes: int, *, width: int = WIDTH) -> TinyNetwork:
    """Return a small DeepLab v3 for a CPU."""

    def head(channels: int) -> nn.Module:
        return nn.Sequential(
            ASPP(channels, width, dilations=(1, 2, 4), dropout=0.0),
            ConvNormAct(width, width),
            nn.Conv2d(width, num_classes, 1),
        )

    return TinyNetwork(num_classes, head=head, width=width)


@register_model(
    "deeplab_v3_efficientnet_lite0",
    display_name="DeepLab v3 (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def deeplab_v3_efficientnet_lite0(
    num_classes: int, *, backbone_weights: str = "none"
) -> TinyNetwork:
    """Return a narrow DeepLab v3 head on EfficientNet-Lite0, with scores of strides 8 and 4."""

    def head(channels: int) -> nn.Module:
        return nn.Sequential(
            ASPP(channels, 128, dilations=(6, 12, 18), dropout=0.1),
            ConvNormAct(128, 128),
            nn.Conv2d(128, num_classes, 1),
        )

    return TinyNetwork(num_classes, head=head, trunk=lite0_trunk(backbone_weights))
