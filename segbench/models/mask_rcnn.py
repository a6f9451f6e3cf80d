"""Mask R-CNN: boxes from region proposals, one small mask for every box.

He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, with the feature pyramid of
Lin et al., CVPR 2017. The full form is torchvision's ``maskrcnn_resnet50_fpn`` with frozen
BatchNorm: 44,401,393 parameters at 91 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segbench.models._detection import TwoStageDetector
from segbench.models._pyramid import BackbonePyramid, TrunkPyramid
from segbench.registry import register_model


@register_model(
    "mask_rcnn_resnet50_fpn",
    task="instance",
    paper="Mask R-CNN",
    year=2017,
    display_name="Mask R-CNN",
    backbone="ResNet-50 FPN",
)
def mask_rcnn_resnet50_fpn(num_classes: int, **options: Any) -> TwoStageDetector:
    """Build Mask R-CNN on ResNet-50 with P2-P6.

    Args:
        num_classes: Things + 1 for the background.
        **options: ``backbone_weights`` and ``trainable_layers`` of ``BackbonePyramid``.
    """
    return TwoStageDetector(
        BackbonePyramid("resnet50", extra=LastLevelMaxPool(), **options), num_classes
    )


@register_model(
    "mask_rcnn_tiny",
    task="instance",
    paper="Mask R-CNN",
    year=2017,
    display_name="Mask R-CNN (tiny)",
    backbone="residual trunk",
    size="tiny",
)
def mask_rcnn_tiny(
    num_classes: int, *, width: int = 32, anchor_sizes: Sequence[int] = (18, 25, 36)
) -> TwoStageDetector:
    """Build a small Mask R-CNN for objects of about ``anchor_sizes`` pixels.

    Args:
        num_classes: Things + 1 for the background.
        width: Channels of the trunk at stride 4.
        anchor_sizes: Sides of the square anchors in pixels.
    """
    backbone = TrunkPyramid(width, 64, outputs=("0", "1"))
    parts = small_parts(num_classes, anchors=tiny_anchors(anchor_sizes))
    return TwoStageDetector(backbone, None, proposal_levels=("1",), **parts)


@register_model(
    "mask_rcnn_lite0_fpn",
    task="instance",
    paper="Mask R-CNN",
    year=2017,
    display_name="Mask R-CNN",
    backbone="EfficientNet-Lite0 FPN",
)
def mask_rcnn_lite0_fpn(
    num_classes: int,
    *,
    anchor_sizes: Sequence[int] = (64, 128, 256),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    backbone_weights: str = "none",
) -> TwoStageDetector:
    """Build Mask R-CNN on a pretrained network small enough to fine-tune on a CPU.

    Args:
        num_classes: Things + 1 for the background.
        anchor_sizes: Square root of the anchors' area in pixels at strides 8, 16 and 32.
        anchor_ratios: Height over width of the anchors.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
    """
    backbone = BackbonePyramid(
        "efficientnet_lite0",
        strides=(8, 16, 32),
        out_channels=64,
        backbone_weights=backbone_weights,
    )
    anchors = AnchorGenerator(tuple((s,) for s in anchor_sizes), (tuple(anchor_ratios),) * 3)
    parts = small_parts(num_classes, anchors=anchors, levels=("0", "1", "2"), sampling_ratio=2)
    return TwoStageDetector(backbone, None, **parts)


def tiny_anchors(sizes: Sequence[int]) -> AnchorGenerator:
    """Return anchors of ``sizes`` pixels on one map, each at three ratios of height to width."""
    return AnchorGenerator((tuple(sizes),), ((0.7, 1.0, 1.5),))


def small_parts(
    num_classes: int,
    *,
    anchors: AnchorGenerator,
    levels: tuple[str, ...] = ("0",),
    sampling_ratio: int = 1,
    channels: int = 64,
) -> dict[str, Any]:
    """Return heads and samplers for about five objects an image on one CPU core.

    Args:
        num_classes: Things + 1.
        anchors: Anchors of the proposals.
        levels: Pyramid levels that regions are pooled from.
        sampling_ratio: Points along each side of a bin; 1 where a bin is about a feature cell.
        channels: Channels of the pyramid.
    """
    return {
        "rpn_anchor_generator": anchors,
        "rpn_batch_size_per_image": 64,
        "rpn_pre_nms_top_n_train": 200,
        "rpn_pre_nms_top_n_test": 100,
        "rpn_post_nms_top_n_train": 100,
        "rpn_post_nms_top_n_test": 40,
        "box_batch_size_per_image": 32,
        "box_detections_per_img": 20,
        "box_roi_pool": MultiScaleRoIAlign(list(levels), 7, sampling_ratio),
        "box_head": TwoMLPHead(channels * 49, 192),
        "box_predictor": FastRCNNPredictor(192, num_classes),
        "mask_roi_pool": MultiScaleRoIAlign(list(levels), 14, sampling_ratio),
        "mask_head": MaskRCNNHeads(channels, (48, 48), 1),
        "mask_predictor": MaskRCNNPredictor(48, 48, num_classes),
    }
