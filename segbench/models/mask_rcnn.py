"""Mask R-CNN: boxes from region proposals, one small mask for every box.

He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, with the feature pyramid of
Lin et al., CVPR 2017. Parameters, BatchNorm frozen except in v2:

    ResNet-50, torchvision's at 91 classes        44,401,393
    ResNet-50 v2, torchvision's at 91 classes     46,359,409
    ResNet-101, built as torchvision's, at 91     63,341,297
    ResNet-50, detectron2's at 80 things          44,343,216
    ResNet-101, detectron2's at 80 things         63,283,120

torchvision counts the background among its classes and gives it a box regression and a mask;
detectron2 has neither (``predictors="detectron2"``, 81 classes), which is 4,357 fewer.

``roi="pool"`` rounds regions to feature cells (RoIPool), which RoIAlign does away with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segbench.core.errors import ConfigError, did_you_mean
from segbench.layers.roi_pool import MultiScaleRoIPool
from segbench.models.bases.detection import ThingBoxPredictor, ThingMaskPredictor, TwoStageDetector
from segbench.models.parts.feature_pyramid import BackbonePyramid, TrunkPyramid
from segbench.models.registry import register_model

PAPER = "Mask R-CNN"
YEAR = 2017
TASK = "instance"

LEVELS = ("0", "1", "2", "3")
"""Pyramid levels of a full network that regions are pooled from."""


@register_model("mask_rcnn_resnet50_fpn", display_name="Mask R-CNN", backbone="ResNet-50 FPN")
def mask_rcnn_resnet50_fpn(num_classes: int, **options: Any) -> TwoStageDetector:
    """Build Mask R-CNN on ResNet-50 with P2-P6.

    Args:
        num_classes: Things + 1 for the background.
        **options: ``roi`` (``align`` or ``pool``), ``predictors`` (``torchvision`` or
            ``detectron2``); ``backbone_weights`` and ``trainable_layers`` of ``BackbonePyramid``.
    """
    return _full("resnet50", num_classes, **options)


@register_model("mask_rcnn_resnet101_fpn", display_name="Mask R-CNN", backbone="ResNet-101 FPN")
def mask_rcnn_resnet101_fpn(num_classes: int, **options: Any) -> TwoStageDetector:
    """Build Mask R-CNN on ResNet-101 with P2-P6; arguments as for ResNet-50."""
    return _full("resnet101", num_classes, **options)


@register_model("mask_rcnn_resnet50_fpn_v2", display_name="Mask R-CNN v2", backbone="ResNet-50 FPN")
def mask_rcnn_resnet50_fpn_v2(num_classes: int, **options: Any) -> TwoStageDetector:
    """Build torchvision's second version: BatchNorm that learns, deeper heads.

    Two convolutions in the proposal head, four and one linear layer in the box head (Li et al.,
    "Benchmarking Detection Transfer Learning with Vision Transformers", arXiv 2111.11429).
    Arguments as for ``mask_rcnn_resnet50_fpn``.
    """
    width, norm = 256, nn.BatchNorm2d
    return _full(
        "resnet50",
        num_classes,
        parts={
            "rpn_head": RPNHead(width, num_anchors=3, conv_depth=2),
            "box_head": FastRCNNConvFCHead((width, 7, 7), [width] * 4, [1024], norm),
            "mask_head": MaskRCNNHeads(width, [width] * 4, 1, norm),
        },
        learned_norm=True,
        **options,
    )


@register_model(
    "mask_rcnn_tiny", display_name="Mask R-CNN (tiny)", backbone="residual trunk", size="tiny"
)
def mask_rcnn_tiny(
    num_classes: int,
    *,
    width: int = 32,
    anchor_sizes: Sequence[int] = (18, 25, 36),
    roi: str = "align",
) -> TwoStageDetector:
    """Build a small Mask R-CNN for objects of about ``anchor_sizes`` pixels.

    Args:
        num_classes: Things + 1 for the background.
        width: Channels of the trunk at stride 4.
        anchor_sizes: Sides of the square anchors in pixels.
        roi: ``align`` or ``pool``.
    """
    backbone = TrunkPyramid(width, 64, outputs=("0", "1"))
    parts = small_parts(num_classes, anchors=tiny_anchors(anchor_sizes), roi=roi)
    return TwoStageDetector(backbone, None, proposal_levels=("1",), **parts)


@register_model(
    "mask_rcnn_tiny_roipool",
    display_name="Mask R-CNN (tiny, RoIPool)",
    backbone="residual trunk",
    size="tiny",
)
def mask_rcnn_tiny_roipool(num_classes: int, **options: Any) -> TwoStageDetector:
    """Build ``mask_rcnn_tiny`` with RoIPool in place of RoIAlign, the paper's comparison."""
    return mask_rcnn_tiny(num_classes, roi="pool", **options)


@register_model("mask_rcnn_lite0_fpn", display_name="Mask R-CNN", backbone="EfficientNet-Lite0 FPN")
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
    roi: str = "align",
) -> dict[str, Any]:
    """Return heads and samplers for about five objects an image on one CPU core.

    Args:
        num_classes: Things + 1.
        anchors: Anchors of the proposals.
        levels: Pyramid levels that regions are pooled from.
        sampling_ratio: Points along each side of a bin; 1 where a bin is about a feature cell.
        channels: Channels of the pyramid.
        roi: ``align`` or ``pool``.
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
        **_pooling(roi, levels, sampling_ratio),
        "box_head": TwoMLPHead(channels * 49, 192),
        "box_predictor": FastRCNNPredictor(192, num_classes),
        "mask_head": MaskRCNNHeads(channels, (48, 48), 1),
        "mask_predictor": MaskRCNNPredictor(48, 48, num_classes),
    }


def _full(
    name: str,
    num_classes: int,
    *,
    roi: str = "align",
    predictors: str = "torchvision",
    parts: dict[str, Any] | None = None,
    **options: Any,
) -> TwoStageDetector:
    classes: int | None = num_classes
    parts = {**_pooling(roi, LEVELS, sampling_ratio=2), **(parts or {})}
    if _one_of("predictors", predictors, ("torchvision", "detectron2")) == "detectron2":
        classes = None
        parts["box_predictor"] = ThingBoxPredictor(1024, num_classes - 1)
        parts["mask_predictor"] = ThingMaskPredictor(256, 256, num_classes - 1)
    backbone = BackbonePyramid(name, extra=LastLevelMaxPool(), **options)
    return TwoStageDetector(backbone, classes, **parts)


def _pooling(roi: str, levels: Sequence[str], sampling_ratio: int) -> dict[str, nn.Module]:
    """Return what cuts out regions for boxes (7x7) and for masks (14x14)."""
    names = {"box_roi_pool": 7, "mask_roi_pool": 14}
    if _one_of("roi", roi, ("align", "pool")) == "pool":
        return {name: MultiScaleRoIPool(levels, size) for name, size in names.items()}
    return {
        name: MultiScaleRoIAlign(list(levels), size, sampling_ratio) for name, size in names.items()
    }


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(
            f"{option}: expected {' or '.join(allowed)}, found '{value}'."
            f"{did_you_mean(value, allowed)}"
        )
    return value
