"""FCOS: fully convolutional one-stage detection, a box and a class for every feature point.

Tian, Shen, Chen, He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019. The
full form is torchvision's ``fcos_resnet50_fpn`` with frozen BatchNorm: 32,269,600
parameters at 91 classes (output 0, the background, is never a positive).

FCOS finds boxes and has no masks. To stand on a board of instance masks each box is handed
in as a filled rectangle, which is why the display names say "boxes": its box AP is the score
of the method, its mask AP only says how far a rectangle gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos as torchvision_fcos
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from segbench.core.types import BoolArray, FloatArray, Prediction
from segbench.models.bases.detection import DetectionTargets, Sizes, detection_truth, to_instances
from segbench.models.parts.feature_pyramid import BackbonePyramid, Pyramid, TrunkPyramid
from segbench.models.registry import register_model

PAPER = "FCOS: Fully Convolutional One-Stage Object Detection"
YEAR = 2019
TASK = "instance"


class FCOS(torchvision_fcos.FCOS):  # type: ignore[misc]
    """torchvision's FCOS without its image transform, under the contract of this package.

    Args:
        backbone: Features and their pyramid.
        num_classes: Things + 1.
        levels: Feature maps the head reads, fine to coarse.
        strides: Pixels between the points of each level.
        head_convs: 3x3 convolutions of each branch of the head.
    """

    def __init__(
        self,
        backbone: Pyramid,
        num_classes: int,
        *,
        levels: tuple[str, ...],
        strides: tuple[int, ...],
        head_convs: int = 4,
    ) -> None:
        anchors = AnchorGenerator(tuple((s,) for s in strides), ((1.0,),) * len(strides))
        head = torchvision_fcos.FCOSHead(backbone.out_channels, 1, num_classes, head_convs)
        super().__init__(backbone, num_classes, anchor_generator=anchors, head=head)
        self.levels = levels
        self.score_threshold = 0.05

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return images, ``features`` (a list of maps) and for all points P of all levels.

        ``cls_logits`` [N, P, C], ``bbox_regression`` [N, P, 4], ``bbox_ctrness`` [N, P, 1].
        """
        pyramid = self.backbone(images)
        features = [pyramid[level] for level in self.levels]
        return {"images": images, "features": features, **self.head(features)}

    def loss(self, outputs: dict[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return focal, GIoU and centre-ness losses of ``targets.instances``."""
        anchors = self._anchors(outputs, targets.sizes)
        truth = detection_truth(targets)
        losses = self.compute_loss(truth, _head_outputs(outputs), anchors, _points(outputs))
        return {f"loss_{name}": value for name, value in losses.items()}

    @torch.no_grad()
    def predict(self, outputs: dict[str, Any], sizes: Sizes) -> list[Prediction]:
        """Return the objects above ``score_threshold``; every mask is its filled box."""
        self.score_thresh = self.score_threshold
        points = _points(outputs)
        per_point = _head_outputs(outputs)
        per_point["cls_logits"] = _without_background(per_point["cls_logits"])
        heads = {k: list(torch.split(v, points, dim=1)) for k, v in per_point.items()}
        anchors = [list(torch.split(a, points)) for a in self._anchors(outputs, sizes)]
        found = self.postprocess_detections(heads, anchors, list(sizes))
        return [
            Prediction(instances=to_instances(objects, box_masks(_boxes(objects), size)))
            for objects, size in zip(found, sizes, strict=True)
        ]

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that ``backbone_lr_factor`` applies to."""
        yield from self.backbone.body_parameters()

    def _anchors(self, outputs: dict[str, Any], sizes: Sizes) -> list[Tensor]:
        images = ImageList(outputs["images"], list(sizes))
        anchors: list[Tensor] = self.anchor_generator(images, outputs["features"])
        return anchors


@register_model("fcos_resnet50_fpn", display_name="FCOS (boxes)", backbone="ResNet-50 FPN")
def fcos_resnet50_fpn(num_classes: int, **options: Any) -> FCOS:
    """Build FCOS on ResNet-50 with P3-P7.

    Args:
        num_classes: Things + 1 for the background.
        **options: ``backbone_weights`` and ``trainable_layers`` of ``BackbonePyramid``.
    """
    backbone = BackbonePyramid(
        "resnet50", strides=(8, 16, 32), extra=LastLevelP6P7(256, 256), **options
    )
    levels = ("0", "1", "2", "p6", "p7")
    return FCOS(backbone, num_classes, levels=levels, strides=(8, 16, 32, 64, 128))


@register_model(
    "fcos_tiny", display_name="FCOS (boxes, tiny)", backbone="residual trunk", size="tiny"
)
def fcos_tiny(num_classes: int, *, width: int = 32) -> FCOS:
    """Build a small FCOS with one level of points, eight pixels apart.

    Args:
        num_classes: Things + 1 for the background.
        width: Channels of the trunk at stride 4.
    """
    backbone = TrunkPyramid(width, 64, outputs=("1",))
    network = FCOS(backbone, num_classes, levels=("1",), strides=(8,), head_convs=2)
    # The head ends in a ReLU: distances that start at 0 get no gradient wherever noise makes
    # them negative. Two strides to each side start every box at 32 pixels.
    nn.init.constant_(network.head.regression_head.bbox_reg.bias, 2.0)
    return network


def box_masks(boxes: FloatArray, size: tuple[int, int]) -> BoolArray:
    """Return bool [n, H, W]: the pixels whose centre lies in each x1, y1, x2, y2 box."""
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    x1, y1, x2, y2 = (boxes[:, i, None] for i in range(4))
    inside_rows = (rows >= y1) & (rows < y2)
    inside_columns = (columns >= x1) & (columns < x2)
    masks: BoolArray = inside_rows[:, :, None] & inside_columns[:, None, :]
    return masks


def _boxes(objects: dict[str, Tensor]) -> FloatArray:
    boxes: FloatArray = objects["boxes"].float().cpu().numpy()
    return boxes


def _head_outputs(outputs: dict[str, Any]) -> dict[str, Tensor]:
    return {key: outputs[key] for key in ("cls_logits", "bbox_regression", "bbox_ctrness")}


def _without_background(logits: Tensor) -> Tensor:
    """Give output 0 no chance: it is trained towards 0 but names no thing."""
    logits = logits.clone()
    logits[..., 0] = -torch.inf
    return logits


def _points(outputs: dict[str, Any]) -> list[int]:
    return [features.shape[2] * features.shape[3] for features in outputs["features"]]
