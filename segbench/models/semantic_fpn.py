"""Semantic FPN: the semantic branch of Panoptic FPN as a network of its own.

Kirillov, Girshick, He, Dollar, "Panoptic Feature Pyramid Networks", CVPR 2019, section 4.1.
The ResNet-50 variant counts as detectron2's with frozen BatchNorm: 28,430,070 parameters at
54 classes.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork

from segbench.layers.conv import resize
from segbench.models.backbones import create_backbone
from segbench.models.bases.semantic import SemanticModel
from segbench.models.panoptic_fpn import SemanticBranch
from segbench.models.registry import register_model

PAPER = "Panoptic Feature Pyramid Networks"
YEAR = 2019
TASK = "semantic"

STRIDES = (4, 8, 16, 32)


class SemanticFPN(SemanticModel):
    """A classifier's features, a pyramid, and its levels summed at stride 4.

    Args:
        num_classes: Output channels.
        backbone: A name of ``segbench.models.backbones``.
        pyramid_channels: Channels of every pyramid level.
        branch_channels: Channels of the semantic branch; a multiple of 32.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        frozen_norm: Keep the statistics, scale and shift of the backbone's BatchNorm.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str,
        pyramid_channels: int = 256,
        branch_channels: int = 128,
        backbone_weights: str = "none",
        frozen_norm: bool = True,
    ) -> None:
        super().__init__(num_classes)
        self.backbone = create_backbone(backbone, weights=backbone_weights, frozen_norm=frozen_norm)
        widths = [self.backbone.channels[f"stride{stride}"] for stride in STRIDES]
        self.pyramid = FeaturePyramidNetwork(widths, pyramid_channels)
        self.branch = SemanticBranch(
            pyramid_channels,
            branch_channels,
            num_classes,
            levels=tuple(str(stride) for stride in STRIDES),
            groups=32,
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.backbone(images)
        levels = self.pyramid({str(stride): features[f"stride{stride}"] for stride in STRIDES})
        return {"logits": resize(self.branch(levels), (images.shape[-2], images.shape[-1]))}


@register_model(
    "semantic_fpn_resnet50", display_name="Semantic FPN (ResNet-50)", backbone="resnet50"
)
def semantic_fpn_resnet50(num_classes: int, *, backbone_weights: str = "none") -> SemanticFPN:
    """Return Semantic FPN on ResNet-50 with frozen BatchNorm."""
    return SemanticFPN(num_classes, backbone="resnet50", backbone_weights=backbone_weights)


@register_model(
    "semantic_fpn_efficientnet_lite0",
    display_name="Semantic FPN (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def semantic_fpn_efficientnet_lite0(
    num_classes: int, *, backbone_weights: str = "none", frozen_norm: bool = False
) -> SemanticFPN:
    """Return Semantic FPN on EfficientNet-Lite0, a quarter of the paper's pyramid width."""
    return SemanticFPN(
        num_classes,
        backbone="efficientnet_lite0",
        pyramid_channels=64,
        branch_channels=64,
        backbone_weights=backbone_weights,
        frozen_norm=frozen_norm,
    )
