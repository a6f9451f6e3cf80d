"""The two-network merge: Mask R-CNN for things, an FCN or PSPNet for stuff, one rule for both.

Kirillov, He, Girshick, Rother, Dollar, "Panoptic Segmentation", CVPR 2019, section 7: two
networks that share no weight, and the official rule that joins them, instances by falling
score over the stuff of the semantic map.

The count is the sum of the parts at the numbers of classes asked for. torchvision's are
44,401,393 (Mask R-CNN, 91 classes) + 35,322,218 (FCN with auxiliary head, 21 classes); on COCO
with 80 things and 53 stuff classes they are 44,347,573 + 35,408,458 = 79,756,031. With
``semantic="pspnet"`` the second is 49,167,818 there.

The losses are summed and no weight is shared, so each network learns what it would learn alone
(a limit on the norm of the gradient is the one thing that both enter). To train them one after
the other, a recipe freezes ``detector`` or ``semantics`` and starts the next one from its weights
(``frozen``, ``init_from``); the files of two runs of their own are merged by
``python -m segbench.panopticapi.combine_semantic_and_instance_predictions``, the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.types import Instances, Prediction
from segbench.layers.panoptic_merge import merge_panoptic
from segbench.models.bases.detection import DetectionTargets, Sizes, TwoStageDetector
from segbench.models.bases.panoptic import MergedPrediction, PanopticParts, certain, label_map
from segbench.models.bases.semantic import SemanticModel
from segbench.models.fcn import fcn_tiny
from segbench.models.mask_rcnn import mask_rcnn_resnet50_fpn, mask_rcnn_tiny
from segbench.models.pspnet import pspnet_resnet50, pspnet_tiny
from segbench.models.registry import register_model
from segbench.models.torchvision_references import torchvision_fcn_resnet50

PAPER = "Panoptic Segmentation"
YEAR = 2019
TASK = "panoptic"


class TwoNetworks(MergedPrediction, nn.Module):
    """A detector and a semantic network side by side; ``merge`` joins what they say.

    The semantic channels are panoptic indices: the semantic network knows the things too, and
    the rule leaves out what it says of them.

    Args:
        detector: Finds the things.
        semantics: Classifies every pixel, things first.
        num_things: Thing classes.
        semantic_weight: Weight of the semantic network's losses.
    """

    def __init__(
        self,
        detector: TwoStageDetector,
        semantics: SemanticModel,
        *,
        num_things: int,
        semantic_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.detector, self.semantics = detector, semantics
        self.num_things, self.semantic_weight = num_things, semantic_weight
        self.panoptic_threshold = 0.5
        self.panoptic_overlap = 0.5
        self.panoptic_stuff_area = 4096

    @property
    def score_threshold(self) -> float:
        """The least score of the detector's objects."""
        return self.detector.score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self.detector.score_threshold = value

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return what the detector returns and, under ``semantic``, what the other does."""
        return {**self.detector(images), "semantic": self.semantics(images)}

    def loss(self, outputs: dict[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return the losses of both; ``targets.semantic`` holds panoptic indices."""
        losses = self.semantics.loss(outputs["semantic"], targets)
        named = {f"semantic_{name}": self.semantic_weight * loss for name, loss in losses.items()}
        return {**self.detector.loss(outputs, targets), **named}

    @torch.no_grad()
    def parts(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[PanopticParts]:
        """Return objects and logits [S, h, w] in panoptic indices; see ``PanopticModel``."""
        found = self.detector.objects(outputs, sizes, boxes)
        logits = outputs["semantic"]["logits"].float()
        return [
            PanopticParts(instances, scores[:, :h, :w])
            for instances, scores, (h, w) in zip(found, logits, sizes, strict=True)
        ]

    def truth_scores(self, semantic: Tensor) -> Tensor:
        """Return logits [S, H, W] that are certain of panoptic indices [H, W]."""
        return certain(semantic, self.semantics.num_classes)

    def merge(self, parts: PanopticParts) -> Prediction:
        """Paint instances by falling score, then the stuff of the semantic map on what is left.

        ``semantic`` is that map as it was, things too.
        """
        semantic = label_map(parts.scores)
        panoptic = merge_panoptic(
            parts.instances,
            semantic,
            num_things=self.num_things,
            score_threshold=self.panoptic_threshold,
            overlap_threshold=self.panoptic_overlap,
            stuff_area=self.panoptic_stuff_area,
        )
        return Prediction(semantic=semantic, instances=parts.instances, panoptic=panoptic)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that ``backbone_lr_factor`` applies to, of both networks."""
        yield from self.detector.backbone_parameters()
        yield from self.semantics.backbone_parameters()


@register_model(
    "mask_rcnn_fcn_merge",
    display_name="Mask R-CNN + FCN, merged",
    backbone="ResNet-50 FPN and dilated ResNet-50",
)
def mask_rcnn_fcn_merge(
    num_things: int,
    num_stuff: int,
    *,
    semantic: str = "fcn",
    backbone_weights: str = "none",
    semantic_backbone_weights: str | None = None,
    semantic_weight: float = 1.0,
    **options: Any,
) -> TwoNetworks:
    """Build Mask R-CNN on ResNet-50 and a dilated FCN or PSPNet on another ResNet-50.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        semantic: ``fcn`` (torchvision's) or ``pspnet``.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        semantic_backbone_weights: Those of the semantic network; None takes the same, but for
            PSPNet, whose deep stem torchvision has no weights of, ``none``.
        semantic_weight: Weight of the semantic network's losses.
        **options: Options of ``mask_rcnn_resnet50_fpn``.
    """
    build = _semantic_network(semantic, torchvision_fcn_resnet50, pspnet_resnet50)
    weights = semantic_backbone_weights
    if weights is None:
        weights = backbone_weights if semantic == "fcn" else "none"
    return TwoNetworks(
        mask_rcnn_resnet50_fpn(num_things + 1, backbone_weights=backbone_weights, **options),
        build(num_things + num_stuff, backbone_weights=weights),
        num_things=num_things,
        semantic_weight=semantic_weight,
    )


@register_model(
    "mask_rcnn_fcn_merge_tiny",
    display_name="Mask R-CNN + FCN, merged (tiny)",
    backbone="two residual trunks",
    size="tiny",
)
def mask_rcnn_fcn_merge_tiny(
    num_things: int,
    num_stuff: int,
    *,
    semantic: str = "fcn",
    semantic_weight: float = 1.0,
    **options: Any,
) -> TwoNetworks:
    """Build a small Mask R-CNN and a small FCN or PSPNet.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        semantic: ``fcn`` or ``pspnet``.
        semantic_weight: Weight of the semantic network's losses.
        **options: Options of ``mask_rcnn_tiny``.
    """
    build = _semantic_network(semantic, fcn_tiny, pspnet_tiny)
    return TwoNetworks(
        mask_rcnn_tiny(num_things + 1, **options),
        build(num_things + num_stuff),
        num_things=num_things,
        semantic_weight=semantic_weight,
    )


def _semantic_network(
    name: str, fcn: Callable[..., SemanticModel], pspnet: Callable[..., SemanticModel]
) -> Callable[..., SemanticModel]:
    builders = {"fcn": fcn, "pspnet": pspnet}
    if name not in builders:
        raise ConfigError(
            f"semantic: expected fcn or pspnet, found '{name}'.{did_you_mean(name, builders)}"
        )
    return builders[name]
