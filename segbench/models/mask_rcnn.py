"""Mask R-CNN: boxes from region proposals, one small mask for every box.

He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, with the feature pyramid of
Lin et al., CVPR 2017. The full form is torchvision's ``maskrcnn_resnet50_fpn`` with frozen
BatchNorm: 44,401,393 parameters at 91 classes.
"""

from __future__ import annotations

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
    num_classes: int, *, width: int = 32, anchor_sizes: tuple[int, ...] = (18, 25, 36)
) -> TwoStageDetector:
    """Build a small Mask R-CNN for objects of about ``anchor_sizes`` pixels.

    Args:
        num_classes: Things + 1 for the background.
        width: Channels of the trunk at stride 4.
        anchor_sizes: Sides of the square anchors in pixels.
    """
    backbone = TrunkPyramid(width, 64, outputs=("0", "1"))
    parts = tiny_parts(num_classes, num_classes, anchor_sizes=anchor_sizes)
    return TwoStageDetector(backbone, None, proposal_levels=("1",), **parts)


def tiny_parts(
    num_scores: int, num_masks: int, *, anchor_sizes: tuple[int, ...], channels: int = 64
) -> dict[str, Any]:
    """Return heads and samplers for about five objects an image on one CPU core.

    Proposals come from stride 8, boxes and masks are pooled from stride 4.

    Args:
        num_scores: Classes of the box head, background counted.
        num_masks: Masks of the mask head.
        anchor_sizes: Sides of the square anchors in pixels.
        channels: Channels of the pyramid.
    """
    return {
        "rpn_anchor_generator": AnchorGenerator((tuple(anchor_sizes),), ((0.7, 1.0, 1.5),)),
        "rpn_batch_size_per_image": 64,
        "rpn_pre_nms_top_n_train": 200,
        "rpn_pre_nms_top_n_test": 100,
        "rpn_post_nms_top_n_train": 100,
        "rpn_post_nms_top_n_test": 40,
        "box_batch_size_per_image": 32,
        "box_detections_per_img": 20,
        "box_roi_pool": MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(channels * 49, 192),
        "box_predictor": FastRCNNPredictor(192, num_scores),
        "mask_roi_pool": MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=2),
        "mask_head": MaskRCNNHeads(channels, (48, 48), 1),
        "mask_predictor": MaskRCNNPredictor(48, 48, num_masks),
    }
