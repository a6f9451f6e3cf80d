"""Panoptic FPN: Mask R-CNN with a semantic branch on the same feature pyramid.

Kirillov, Girshick, He, Dollar, "Panoptic Feature Pyramid Networks", CVPR 2019. Counts follow
detectron2: 45,973,990 (ResNet-50) and 64,913,894 (ResNet-101) parameters at 80 things and
53 stuff classes with frozen BatchNorm. There the background has no box regression and no
mask, which makes its Mask R-CNN 4,357 parameters smaller than torchvision's at 81 outputs.

Differences from detectron2 that change no count: torchvision's ResNet strides in the 3x3
convolutions and its RoIAlign samples 2x2 points in each bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, Instances, IntArray, Prediction
from segbench.layers.conv import resize
from segbench.layers.losses.pixel import cross_entropy
from segbench.layers.panoptic_merge import merge_panoptic, panoptic_labels
from segbench.models.bases.detection import (
    DetectionTargets,
    Sizes,
    ThingBoxPredictor,
    ThingMaskPredictor,
    TwoStageDetector,
)
from segbench.models.bases.panoptic import MergedPrediction, PanopticParts, certain
from segbench.models.mask_rcnn import small_parts, tiny_anchors
from segbench.models.parts.feature_pyramid import BackbonePyramid, Pyramid, TrunkPyramid
from segbench.models.registry import register_model

PAPER = "Panoptic Feature Pyramid Networks"
YEAR = 2019
TASK = "panoptic"

THING = 0
"""Output of the semantic branch that stands for all things; stuff follows from 1."""


class SemanticBranch(nn.Module):
    """Every pyramid level brought to stride 4, summed and classified.

    Level i passes max(i, 1) times through 3x3 convolution, GroupNorm, ReLU and, except at
    stride 4, twofold bilinear upsampling.

    Args:
        in_channels: Channels of the pyramid.
        channels: Channels of the branch.
        num_classes: Stuff classes + 1 for all things.
        levels: Pyramid levels from stride 4 upwards, each twice as coarse as the last.
        groups: Groups of the GroupNorms.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        *,
        levels: tuple[str, ...],
        groups: int,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.scale_heads = nn.ModuleList(
            _scale_head(in_channels, channels, doublings=i, groups=groups)
            for i in range(len(levels))
        )
        self.predictor = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits [N, C, H/4, W/4]."""
        finest = self.scale_heads[0](features[self.levels[0]])
        size = (finest.shape[-2], finest.shape[-1])
        total = finest
        for level, head in zip(self.levels[1:], self.scale_heads[1:], strict=True):
            total = total + resize(head(features[level]), size)
        logits: Tensor = self.predictor(total)
        return logits


class PanopticFPN(MergedPrediction, TwoStageDetector):
    """Mask R-CNN and a semantic branch; ``predict`` merges the two.

    The thresholds of the merge are the attributes ``panoptic_threshold``,
    ``panoptic_overlap`` and ``panoptic_stuff_area``.

    Args:
        backbone: Features and their pyramid.
        num_things: Thing classes.
        num_stuff: Stuff classes.
        semantic_channels: Channels of the semantic branch.
        semantic_levels: Pyramid levels it reads, from stride 4 upwards.
        semantic_groups: Groups of its GroupNorms.
        semantic_weight: Weight of its loss; 0.5 in the paper's best setting.
        **parts: See ``TwoStageDetector``.
    """

    def __init__(
        self,
        backbone: Pyramid,
        num_things: int,
        num_stuff: int,
        *,
        semantic_channels: int = 128,
        semantic_levels: tuple[str, ...] = ("0", "1", "2", "3"),
        semantic_groups: int = 32,
        semantic_weight: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(backbone, None, **parts)
        self.num_things = num_things
        self.semantic_weight = semantic_weight
        self.semantic_branch = SemanticBranch(
            backbone.out_channels,
            semantic_channels,
            num_stuff + 1,
            levels=semantic_levels,
            groups=semantic_groups,
        )
        self.panoptic_threshold = 0.5
        self.panoptic_overlap = 0.5
        self.panoptic_stuff_area = 4096

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return images, features and ``semantic_logits`` [N, stuff + 1, H/4, W/4]."""
        outputs = super().forward(images)
        outputs["semantic_logits"] = self.semantic_branch(outputs["features"])
        return outputs

    def loss(self, outputs: dict[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return the losses of Mask R-CNN and the weighted cross-entropy of the branch.

        ``targets.semantic`` holds panoptic indices; 255 is ignored.
        """
        losses = super().loss(outputs, targets)
        if targets.semantic is None:
            raise ConfigError("Panoptic FPN needs targets with a semantic map; found none")
        labels = self._branch_labels(targets.semantic)
        logits = resize(outputs["semantic_logits"], (labels.shape[-2], labels.shape[-1]))
        return {**losses, "loss_semantic": self.semantic_weight * cross_entropy(logits, labels)}

    @torch.no_grad()
    def parts(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[PanopticParts]:
        """Return objects and logits [stuff + 1, h, w] of the branch; see ``PanopticModel``."""
        found = self.objects(outputs, sizes, boxes)
        height, width = outputs["images"].shape[-2:]
        logits = resize(outputs["semantic_logits"].float(), (height, width))
        return [
            PanopticParts(instances, scores[:, :h, :w])
            for instances, scores, (h, w) in zip(found, logits, sizes, strict=True)
        ]

    def truth_scores(self, semantic: Tensor) -> Tensor:
        """Return logits [stuff + 1, H, W] that are certain of panoptic indices [H, W]."""
        return certain(self._branch_labels(semantic), self.semantic_branch.predictor.out_channels)

    def merge(self, parts: PanopticParts) -> Prediction:
        """Paint instances by score, then stuff where the branch sees no thing.

        ``semantic`` holds panoptic indices: the class of each segment, and the likeliest
        stuff class where the merge left void.
        """
        is_thing = (parts.scores.argmax(dim=0) == THING).cpu().numpy()
        background = self._best_stuff(parts.scores)
        panoptic = merge_panoptic(
            parts.instances,
            np.where(is_thing, IGNORE_INDEX, background),
            num_things=self.num_things,
            score_threshold=self.panoptic_threshold,
            overlap_threshold=self.panoptic_overlap,
            stuff_area=self.panoptic_stuff_area,
        )
        semantic = panoptic_labels(panoptic, background)
        return Prediction(semantic=semantic, instances=parts.instances, panoptic=panoptic)

    def _branch_labels(self, semantic: Tensor) -> Tensor:
        stuff = semantic - self.num_things + 1
        labels = torch.where(semantic < self.num_things, torch.full_like(stuff, THING), stuff)
        return torch.where(semantic == IGNORE_INDEX, semantic, labels)

    def _best_stuff(self, logits: Tensor) -> IntArray:
        best: IntArray = logits[THING + 1 :].argmax(dim=0).cpu().numpy() + self.num_things
        return best.astype(np.uint8 if best.max(initial=0) < IGNORE_INDEX else np.uint16)


@register_model("panoptic_fpn_resnet50", display_name="Panoptic FPN", backbone="ResNet-50 FPN")
def panoptic_fpn_resnet50(num_things: int, num_stuff: int, **options: Any) -> PanopticFPN:
    """Build Panoptic FPN on ResNet-50.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        **options: ``backbone_weights`` and ``trainable_layers`` of ``BackbonePyramid``.
    """
    return _full("resnet50", num_things, num_stuff, **options)


@register_model("panoptic_fpn_resnet101", display_name="Panoptic FPN", backbone="ResNet-101 FPN")
def panoptic_fpn_resnet101(num_things: int, num_stuff: int, **options: Any) -> PanopticFPN:
    """Build Panoptic FPN on ResNet-101; arguments as for ResNet-50."""
    return _full("resnet101", num_things, num_stuff, **options)


@register_model(
    "panoptic_fpn_lite0", display_name="Panoptic FPN", backbone="EfficientNet-Lite0 FPN"
)
def panoptic_fpn_lite0(
    num_things: int,
    num_stuff: int,
    *,
    anchor_sizes: Sequence[int] = (64, 128, 256),
    backbone_weights: str = "none",
) -> PanopticFPN:
    """Build Panoptic FPN on a pretrained network small enough to fine-tune on a CPU.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        anchor_sizes: Square root of the anchors' area in pixels at strides 8, 16 and 32.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
    """
    levels = ("1", "2", "3")
    anchors = AnchorGenerator(tuple((s,) for s in anchor_sizes), ((0.5, 1.0, 2.0),) * len(levels))
    backbone = BackbonePyramid(
        "efficientnet_lite0", out_channels=64, backbone_weights=backbone_weights
    )
    return PanopticFPN(
        backbone,
        num_things,
        num_stuff,
        semantic_channels=64,
        semantic_groups=16,
        proposal_levels=levels,
        **small_parts(num_things + 1, anchors=anchors, levels=levels, sampling_ratio=2),
    )


@register_model(
    "panoptic_fpn_tiny", display_name="Panoptic FPN (tiny)", backbone="residual trunk", size="tiny"
)
def panoptic_fpn_tiny(
    num_things: int,
    num_stuff: int,
    *,
    width: int = 32,
    anchor_sizes: Sequence[int] = (18, 25, 36),
) -> PanopticFPN:
    """Build a small Panoptic FPN for objects of about ``anchor_sizes`` pixels.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        width: Channels of the trunk at stride 4.
        anchor_sizes: Sides of the square anchors in pixels.
    """
    parts = small_parts(num_things + 1, anchors=tiny_anchors(anchor_sizes))
    return PanopticFPN(
        TrunkPyramid(width, 64, outputs=("0", "1", "2")),
        num_things,
        num_stuff,
        semantic_channels=32,
        semantic_levels=("0", "1", "2"),
        semantic_groups=8,
        proposal_levels=("1",),
        **parts,
    )


def _full(name: str, num_things: int, num_stuff: int, **options: Any) -> PanopticFPN:
    return PanopticFPN(
        BackbonePyramid(name, extra=LastLevelMaxPool(), **options),
        num_things,
        num_stuff,
        rpn_post_nms_top_n_train=1000,
        box_predictor=ThingBoxPredictor(1024, num_things),
        mask_predictor=ThingMaskPredictor(256, 256, num_things),
    )


def _scale_head(in_channels: int, channels: int, *, doublings: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for step in range(max(doublings, 1)):
        width = in_channels if step == 0 else channels
        convolution = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.GroupNorm(groups, channels), nn.ReLU(inplace=True)]
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
