"""UPSNet: Mask R-CNN, a deformable semantic head and a panoptic head without parameters.

Xiong, Liao, Zhao, Hu, Bai, Yumer, Urtasun, "UPSNet: A Unified Panoptic Segmentation Network",
CVPR 2019, with what only the authors' repository says (steps of the merge, weights of the
losses). No count of theirs is known; the parts at 80 things and 53 stuff classes are

    Mask R-CNN, ResNet-50, torchvision's at 81 classes          44,347,573
    semantic head, 3 deformable layers 256-256-128-128           1,136,438
        (3x3 convolutions with bias 1,032,704, their offsets 103,734)
    its classifier on 4 x 128 channels                              68,229
    global average of C5 added to P5 (COCO only)                   524,544
    sum                                                         46,076,784

Multiply-adds with 100 detections: 252.3 G at 800 x 800 and 348.4 G at 800 x 1216, 67.3 G of them
on regions. LPSNet's Table 1 states 259 G "FLOPs" of UPSNet at a short side of 800; it does not say
the long one.

Differences from the authors' network: torchvision's ResNet strides in the 3x3 convolutions;
its detector suppresses boxes class by class before the panoptic head does so across classes;
RoI losses sample the logits, not the features, which is the same up to rounding as the
classifier is linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, BoolArray, FloatArray, Instances, IntArray, Prediction
from segbench.layers.conv import resize
from segbench.layers.deformable import DeformableSemanticHead
from segbench.layers.losses.pixel import cross_entropy
from segbench.layers.panoptic_head import inside_boxes, panoptic_logits, paste_logits
from segbench.layers.unified_merge import choose_objects, settle
from segbench.models.bases.detection import (
    DetectionTargets,
    Sizes,
    TwoStageDetector,
    detection_truth,
    paste,
)
from segbench.models.bases.panoptic import MergedPrediction, PanopticParts, certain, label_map
from segbench.models.mask_rcnn import small_parts, tiny_anchors
from segbench.models.parts.feature_pyramid import BackbonePyramid, Pyramid, TrunkPyramid
from segbench.models.parts.upsnet_losses import roi_loss, segment_loss, some
from segbench.models.registry import register_model

PAPER = "UPSNet: A Unified Panoptic Segmentation Network"
YEAR = 2019
TASK = "panoptic"

LEAST_CHANCE = 1e-6
"""Chances of masks are this far from 0 and 1 before they become logits."""


class UPSNet(MergedPrediction, TwoStageDetector):
    """Mask R-CNN and a semantic head, whose logits one softmax over segments joins.

    ``panoptic_threshold``, ``panoptic_overlap`` and ``panoptic_stuff_area`` say which objects
    enter the panoptic head (``choose_objects``) and how much stuff stays.

    Args:
        backbone: Features and their pyramid.
        num_things: Thing classes.
        num_stuff: Stuff classes.
        semantic_widths: Channels of the deformable layers.
        semantic_levels: Pyramid levels they read, from stride 4 upwards.
        semantic_weight: Weight of the semantic loss.
        roi_weight: Weight of the semantic loss inside of the true boxes.
        panoptic_weight: Weight of the panoptic loss.
        known: Share of the true objects that the panoptic loss knows; the others are unknown.
        **parts: See ``TwoStageDetector``.
    """

    def __init__(
        self,
        backbone: Pyramid,
        num_things: int,
        num_stuff: int,
        *,
        semantic_widths: Sequence[int] = (256, 128, 128),
        semantic_levels: Sequence[str] = ("0", "1", "2", "3"),
        semantic_weight: float = 0.2,
        roi_weight: float = 0.04,
        panoptic_weight: float = 0.1,
        known: float = 0.7,
        **parts: Any,
    ) -> None:
        classes = None if "mask_predictor" in parts else num_things + 1
        super().__init__(backbone, classes, **parts)
        self.num_things, self.num_stuff = num_things, num_stuff
        self.semantic_weight, self.roi_weight = semantic_weight, roi_weight
        self.panoptic_weight, self.known = panoptic_weight, known
        self.semantic_head = DeformableSemanticHead(
            backbone.out_channels,
            num_things + num_stuff,
            widths=semantic_widths,
            levels=semantic_levels,
            shared=True,
            norm="none",
        )
        self.panoptic_threshold = 0.6
        self.panoptic_overlap = 0.3
        self.panoptic_stuff_area = 4096

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return images, features and ``semantic_logits`` [N, S, H/4, W/4], things first."""
        outputs = super().forward(images)
        outputs["semantic_logits"] = self.semantic_head(outputs["features"])
        return outputs

    def loss(self, outputs: dict[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return the losses of Mask R-CNN and those of the semantic and the panoptic head.

        ``targets.semantic`` holds panoptic indices; 255 is ignored.
        """
        losses = super().loss(outputs, targets)
        if targets.semantic is None:
            raise ConfigError("UPSNet needs targets with a semantic map; found none")
        semantic, truth = targets.semantic, detection_truth(targets)
        logits = outputs["semantic_logits"]
        full = resize(logits, (semantic.shape[-2], semantic.shape[-1]))
        losses["loss_semantic"] = self.semantic_weight * cross_entropy(full, semantic)
        if self.roi_weight:
            boxes = [objects["boxes"] for objects in truth]
            losses["loss_roi"] = self.roi_weight * roi_loss(logits, semantic, boxes)
        losses["loss_panoptic"] = self.panoptic_weight * self._panoptic_loss(
            outputs, targets.sizes, semantic, [some(objects, self.known) for objects in truth]
        )
        return losses

    @torch.no_grad()
    def parts(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[PanopticParts]:
        """Return objects, logits [S, h, w] and the chances of the objects' pixels.

        Chances are 0 for objects below ``panoptic_threshold``, which take no part.
        """
        found = self.regions(outputs, sizes, boxes)
        height, width = outputs["images"].shape[-2:]
        logits = resize(outputs["semantic_logits"].float(), (height, width))
        return [
            PanopticParts(objects, scores[:, :h, :w], self._chances(regions, (h, w)))
            for objects, regions, scores, (h, w) in zip(
                paste(found, sizes), found, logits, sizes, strict=True
            )
        ]

    def truth_scores(self, semantic: Tensor) -> Tensor:
        """Return logits [S, H, W] that are certain of panoptic indices [H, W]."""
        return certain(semantic, self.num_things + self.num_stuff)

    def merge(self, parts: PanopticParts) -> Prediction:
        """Give each pixel to stuff, an object or the unknown by the largest panoptic logit.

        ``semantic`` is the map of the semantic head.
        """
        semantic = label_map(parts.scores)
        chosen = choose_objects(
            parts.instances,
            score_threshold=self.panoptic_threshold,
            overlap_threshold=self.panoptic_overlap,
        )
        won = self._winners(parts, chosen)
        stuff = np.where(won < self.num_stuff, won + self.num_things, IGNORE_INDEX)
        numbers = self.num_stuff + np.arange(len(chosen))
        panoptic = settle(
            _with_masks(parts.instances, chosen, won == numbers[:, None, None]),
            stuff,
            semantic,
            num_things=self.num_things,
            stuff_area=self.panoptic_stuff_area,
        )
        return Prediction(semantic=semantic, instances=parts.instances, panoptic=panoptic)

    def _winners(self, parts: PanopticParts, chosen: list[int]) -> IntArray:
        """Return the channel of the largest panoptic logit, int64 [H, W]."""
        scores, objects = parts.scores, parts.instances
        size = (scores.shape[-2], scores.shape[-1])
        chances = objects.masks if parts.mask_scores is None else parts.mask_scores
        chance = torch.from_numpy(chances[chosen]).to(scores)
        boxes = torch.from_numpy(objects.boxes[chosen]).to(scores)
        inside = inside_boxes(boxes, size) | (chance > 0)
        logits = panoptic_logits(
            scores,
            torch.where(inside, torch.logit(chance, LEAST_CHANCE), 0.0),
            inside,
            torch.from_numpy(objects.labels[chosen] - 1).to(scores.device),
            num_things=self.num_things,
        )
        winners: IntArray = logits.argmax(dim=0).cpu().numpy()
        return winners

    def _chances(self, regions: dict[str, Tensor], size: tuple[int, int]) -> FloatArray:
        """Return float32 [N, H, W] of the objects of ``TwoStageDetector.regions``."""
        certain_enough = regions["scores"] >= self.panoptic_threshold
        boxes = regions["boxes"][certain_enough].float()
        masks = torch.logit(regions["masks"][certain_enough, 0].float(), LEAST_CHANCE)
        pasted = paste_logits(masks, boxes, size).sigmoid() * inside_boxes(boxes, size)
        chances = np.zeros((len(certain_enough), *size), dtype=np.float32)
        chances[certain_enough.cpu().numpy()] = pasted.cpu().numpy()
        return chances

    def _panoptic_loss(
        self,
        outputs: dict[str, Any],
        sizes: Sizes,
        semantic: Tensor,
        known: list[dict[str, Tensor]],
    ) -> Tensor:
        """Return the mean over the images of the cross-entropy over segments, at stride 4."""
        boxes = [objects["boxes"] for objects in known]
        labels = [objects["labels"] for objects in known]
        masks = self.mask_logits(outputs, sizes, boxes)
        own = masks[torch.arange(len(masks), device=masks.device), torch.cat(labels)]
        per_image = torch.split(own.float(), [len(image) for image in labels])
        logits = outputs["semantic_logits"].float()
        images = zip(logits, per_image, known, semantic, strict=True)
        with torch.autocast(logits.device.type, enabled=False):
            losses = [segment_loss(*image, num_things=self.num_things) for image in images]
        return torch.stack(losses).mean()


class WithMean(nn.Module):
    """A convolution of features, plus a linear map of their mean at every place.

    Args:
        convolution: Keeps the size of the features.
        in_channels: Channels of the features.
        out_channels: Channels of the result.
    """

    def __init__(self, convolution: nn.Module, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.context = nn.Linear(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H, W] of [N, in_channels, H, W]."""
        context = self.context(features.mean(dim=(2, 3)))
        result: Tensor = self.convolution(features) + context[:, :, None, None]
        return result


@register_model("upsnet_resnet50", display_name="UPSNet", backbone="ResNet-50 FPN")
def upsnet_resnet50(
    num_things: int,
    num_stuff: int,
    *,
    semantic_layers: int = 3,
    global_context: bool = True,
    semantic_weight: float = 0.2,
    roi_weight: float = 0.04,
    panoptic_weight: float = 0.1,
    **options: Any,
) -> UPSNet:
    """Build UPSNet on ResNet-50; the defaults are those of COCO.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        semantic_layers: Deformable layers, at least 2; the last two have 128 channels.
        global_context: Add a map of the mean of the deepest features to the top of the pyramid.
        semantic_weight: Weight of the semantic loss.
        roi_weight: Weight of the semantic loss inside of the true boxes.
        panoptic_weight: Weight of the panoptic loss.
        **options: ``backbone_weights`` and ``trainable_layers`` of ``BackbonePyramid``.
    """
    if semantic_layers < 2:
        raise ConfigError(f"semantic_layers must be at least 2, found {semantic_layers}")
    backbone = BackbonePyramid("resnet50", extra=LastLevelMaxPool(), **options)
    if global_context:
        top = backbone.fpn.inner_blocks[-1]
        backbone.fpn.inner_blocks[-1] = WithMean(top, top[0].in_channels, backbone.out_channels)
    return UPSNet(
        backbone,
        num_things,
        num_stuff,
        semantic_widths=(256,) * (semantic_layers - 2) + (128, 128),
        semantic_weight=semantic_weight,
        roi_weight=roi_weight,
        panoptic_weight=panoptic_weight,
    )


@register_model("upsnet_tiny", display_name="UPSNet (tiny)", backbone="residual trunk", size="tiny")
def upsnet_tiny(
    num_things: int,
    num_stuff: int,
    *,
    width: int = 32,
    anchor_sizes: Sequence[int] = (18, 25, 36),
) -> UPSNet:
    """Build a small UPSNet for objects of about ``anchor_sizes`` pixels.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        width: Channels of the trunk at stride 4.
        anchor_sizes: Sides of the square anchors in pixels.
    """
    return UPSNet(
        TrunkPyramid(width, 64, outputs=("0", "1", "2")),
        num_things,
        num_stuff,
        semantic_widths=(32, 32),
        semantic_levels=("0", "1", "2"),
        semantic_weight=0.5,
        roi_weight=0.1,
        panoptic_weight=0.5,
        proposal_levels=("1",),
        **small_parts(num_things + 1, anchors=tiny_anchors(anchor_sizes)),
    )


def _with_masks(objects: Instances, chosen: list[int], masks: BoolArray) -> Instances:
    scores = None if objects.scores is None else objects.scores[chosen]
    return Instances(masks, objects.labels[chosen], objects.boxes[chosen], scores)
