"""LPSNet: boxes and classes point by point, pasted together without a mask head.

Hong, Guo, Zhang, Chen, Chu, "LPSNet: A Lightweight Solution for Fast Panoptic Segmentation",
CVPR 2021. Its authors have published no code; what follows is what the paper and its tables say.

- A ResNet-50 and a feature pyramid P2-P7, whose top is a pyramid pooling module.
- Semantic head: deformable convolutions on each of P2-P5, enlarged to stride 4, concatenated,
  one 1x1 convolution to all things and stuff.
- Box head, shared by P3-P7: at each point the distances to the four sides of a box and a
  border-ness. The class of a box is the semantic one of its point.
- Panoptic head, without parameters: boxes are pasted onto the semantic map by falling
  confidence; an object is the pixels of its class in its box that are still free.

Readings of our own where the sources say nothing more: the border-ness is FCOS's formula on the
distances to the border of the mask (on those to the box it would be centre-ness by another name);
"closest border-ness" compares with the border-ness the network predicts; boxes and confidences
come from the network's own semantic map also where an oracle replaces it later.

``lpsnet_resnet50`` has 34,823,959 parameters at 80 things and 53 stuff classes: ResNet-50
23,454,912 (frozen BatchNorm has none), the top of the pyramid 8,915,072 (four 1x1 convolutions of
2,048 to 512 channels, a 3x3 one of 4,096 to 128), its three laterals 229,760 and its six 3x3
convolutions 885,504, the semantic head 742,093, the box head 596,618. No count is published.

Its GMACs at short sides 800, 882 and 964 are 142.1, 158.0 and 172.7 where the paper's Table 1
prints 139, 153 and 167 GFLOPs. Those grow with the short side, not its square, so the long side
is taken to be fixed at 1,333. They decide what no text says: with 256 channels in the place of
128 there would be 275.5, with two deformable convolutions on each level 157.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, Instances, IntArray, Prediction
from segbench.layers.conv import resize
from segbench.layers.deformable import DeformableSemanticHead
from segbench.layers.losses.box import BOX_LOSSES, BoxLoss, box_overlap
from segbench.layers.losses.pixel import cross_entropy
from segbench.layers.panoptic_merge import merge_panoptic
from segbench.models.bases.detection import DetectionTargets, Sizes, detection_truth
from segbench.models.bases.panoptic import MergedPrediction, PanopticParts, certain
from segbench.models.parts.feature_pyramid import BackbonePyramid, Pyramid, TrunkPyramid
from segbench.models.parts.lpsnet_boxes import best_boxes, boxes_around, certain_boxes
from segbench.models.parts.lpsnet_heads import PointBoxHead, context_top
from segbench.models.parts.lpsnet_samples import Points, SampleRule, Samples
from segbench.models.registry import register_model

PAPER = "LPSNet: A Lightweight Solution for Fast Panoptic Segmentation"
YEAR = 2021
TASK = "panoptic"

SEMANTIC_STRIDE = 4


class LPSNet(MergedPrediction, nn.Module):
    """Per-point boxes and a semantic map on one pyramid; ``predict`` pastes them together.

    The thresholds of the paste are the attributes ``panoptic_threshold``,
    ``panoptic_overlap`` and ``panoptic_stuff_area``; the confidence they compare is the root of
    the probability of the class times the border-ness.

    Args:
        backbone: Features and their pyramid.
        num_things: Thing classes.
        num_stuff: Stuff classes.
        semantic_head: Reads the pyramid from stride 4 upwards.
        box_head: Finds a box for every point.
        quality: See ``SampleRule``; also what the last output of the box head learns.
        overlap: See ``SampleRule``.
        positives: See ``SampleRule``.
        box_loss: ``giou`` or ``iou``.
        semantic_weight: Weight of the semantic loss; the paper's is 0.7 on COCO and 1 on
            Cityscapes.
    """

    class_weights: Tensor | None
    """Weight of each class in the semantic loss, set by the trainer; None weighs all alike."""

    def __init__(
        self,
        backbone: Pyramid,
        num_things: int,
        num_stuff: int,
        *,
        semantic_head: DeformableSemanticHead,
        box_head: PointBoxHead,
        quality: str = "borderness",
        overlap: str = "closest_borderness",
        positives: str = "point",
        box_loss: BoxLoss = "giou",
        semantic_weight: float = 0.7,
    ) -> None:
        super().__init__()
        if box_loss not in BOX_LOSSES:
            raise ConfigError(
                f"LPSNet: box_loss '{box_loss}' is unknown", fix=f"one of {', '.join(BOX_LOSSES)}"
            )
        self.backbone, self.semantic_head, self.box_head = backbone, semantic_head, box_head
        self.num_things, self.num_classes = num_things, num_things + num_stuff
        self.rule = SampleRule(quality, overlap, positives)
        self.box_loss, self.semantic_weight = box_loss, semantic_weight
        self.score_threshold = 0.05
        self.register_buffer("class_weights", None, persistent=False)
        self.panoptic_threshold = 0.5
        self.panoptic_overlap = 0.5
        self.panoptic_stuff_area = 4096

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return the images, the semantic logits and, for all P points, boxes.

        ``semantic_logits`` [N, S, H/4, W/4], ``distances`` [N, P, 4] in pixels to left, top,
        right and bottom, ``quality_logits`` [N, P].
        """
        pyramid = self.backbone(images)
        distances, quality = self.box_head(pyramid)
        return {
            "images": images,
            "semantic_logits": self.semantic_head(pyramid),
            "distances": distances,
            "quality_logits": quality,
        }

    def loss(self, outputs: dict[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return the losses of the semantic map, of the boxes and of their border-ness.

        Boxes and border-ness are means over the positive samples of the batch.
        ``targets.semantic`` holds panoptic indices; 255 is ignored.
        """
        if targets.semantic is None:
            raise ConfigError("LPSNet needs targets with a semantic map; found none")
        labels = targets.semantic
        logits = resize(outputs["semantic_logits"], (labels.shape[-2], labels.shape[-1]))
        semantic = cross_entropy(logits, labels, class_weights=self.class_weights)
        boxes, quality = self._box_losses(outputs, detection_truth(targets))
        return {
            "loss_semantic": self.semantic_weight * semantic,
            "loss_box": boxes,
            f"loss_{self.rule.quality}": quality,
        }

    @torch.no_grad()
    def parts(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[PanopticParts]:
        """Return boxes, filled, and the semantic logits; see ``PanopticModel``.

        ``masks`` say where an object may be: ``merge`` keeps the pixels of its class.
        """
        height, width = outputs["images"].shape[-2:]
        logits = resize(outputs["semantic_logits"].float(), (height, width))
        if boxes is None:
            found = self._detect(outputs, sizes)
        else:
            found = [certain_boxes(*given) for given in zip(boxes, sizes, strict=True)]
        return [
            PanopticParts(instances, scores[:, :h, :w])
            for instances, scores, (h, w) in zip(found, logits, sizes, strict=True)
        ]

    def truth_scores(self, semantic: Tensor) -> Tensor:
        """Return logits [S, H, W] that are certain of panoptic indices [H, W]."""
        return certain(semantic, self.num_classes)

    def merge(self, parts: PanopticParts) -> Prediction:
        """Paste the boxes by falling confidence onto the semantic map, then the stuff.

        Pixels of a thing class that no object takes are void; ``semantic`` is the semantic
        map itself.
        """
        labels: IntArray = parts.scores.argmax(dim=0).cpu().numpy()
        instances = _of_their_class(parts.instances, labels)
        panoptic = merge_panoptic(
            instances,
            np.where(labels < self.num_things, IGNORE_INDEX, labels),
            num_things=self.num_things,
            score_threshold=self.panoptic_threshold,
            overlap_threshold=self.panoptic_overlap,
            stuff_area=self.panoptic_stuff_area,
        )
        kind = np.uint8 if self.num_classes <= IGNORE_INDEX else np.uint16
        semantic: IntArray = labels.astype(kind)
        return Prediction(semantic=semantic, instances=instances, panoptic=panoptic)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that ``backbone_lr_factor`` applies to."""
        yield from self.backbone.body_parameters()

    def _points(self, outputs: dict[str, Any]) -> Points:
        images = outputs["images"]
        size = (images.shape[-2], images.shape[-1])
        return Points.of(size, self.box_head.strides, images.device)

    def _chances(self, outputs: dict[str, Any], points: Points) -> Tensor:
        """Return the probabilities [N, things, P] of the thing classes at the points."""
        logits = points.read(outputs["semantic_logits"], stride=SEMANTIC_STRIDE)
        return logits.float().softmax(dim=1)[:, : self.num_things]

    def _samples(
        self, outputs: dict[str, Any], truth: Sequence[dict[str, Tensor]], points: Points
    ) -> list[Samples]:
        chances = self._chances(outputs, points).detach()
        quality = outputs["quality_logits"].detach().sigmoid()
        return [
            self.rule.samples(points, *each) for each in zip(truth, quality, chances, strict=True)
        ]

    def _box_losses(
        self, outputs: dict[str, Any], truth: Sequence[dict[str, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        points = self._points(outputs)
        boxes = boxes_around(points, outputs["distances"])
        samples = self._samples(outputs, truth, points)
        number = max(1, sum(len(each.points) for each in samples))
        losses = [
            box_overlap(image[each.points], objects["boxes"][each.objects], kind=self.box_loss)
            for image, objects, each in zip(boxes, truth, samples, strict=True)
        ]
        logits = zip(outputs["quality_logits"], samples, strict=True)
        found = torch.cat([image[each.points] for image, each in logits])
        true = torch.cat([each.quality for each in samples])
        quality = functional.binary_cross_entropy_with_logits(found, true, reduction="sum")
        return torch.cat(losses).sum() / number, quality / number

    def _detect(self, outputs: dict[str, Any], sizes: Sizes) -> list[Instances]:
        points = self._points(outputs)
        chances, labels = self._chances(outputs, points).max(dim=1)
        scores = (chances * outputs["quality_logits"].float().sigmoid()).sqrt()
        boxes = boxes_around(points, outputs["distances"].float())
        return [
            best_boxes(
                image_boxes,
                image_scores * points.inside(size),
                image_labels + 1,
                size=size,
                score_threshold=self.score_threshold,
            )
            for image_boxes, image_scores, image_labels, size in zip(
                boxes, scores, labels, sizes, strict=True
            )
        ]


def _of_their_class(instances: Instances, labels: IntArray) -> Instances:
    """Return the objects with only those pixels of their masks whose class is theirs."""
    return replace(
        instances, masks=instances.masks & (labels == instances.labels[:, None, None] - 1)
    )


@register_model("lpsnet_resnet50", display_name="LPSNet", backbone="ResNet-50 FPN")
def lpsnet_resnet50(
    num_things: int,
    num_stuff: int,
    *,
    top: str = "ppm",
    width: int = 128,
    backbone_weights: str = "none",
    trainable_layers: int = 5,
    **choices: Any,
) -> LPSNet:
    """Build LPSNet on ResNet-50.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        top: Top of the pyramid: ``ppm``, ``gap`` or ``none``.
        width: Channels of the pyramid and of both heads.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        trainable_layers: See ``BackbonePyramid``.
        **choices: ``quality``, ``overlap``, ``positives``, ``box_loss`` and
            ``semantic_weight`` of ``LPSNet``.
    """
    backbone = BackbonePyramid(
        "resnet50",
        extra=LastLevelP6P7(width, width),
        out_channels=width,
        backbone_weights=backbone_weights,
        trainable_layers=trainable_layers,
    )
    return _on(backbone, num_things, num_stuff, top=top, convs=4, **choices)


@register_model("lpsnet_lite0", display_name="LPSNet", backbone="EfficientNet-Lite0 FPN")
def lpsnet_lite0(
    num_things: int,
    num_stuff: int,
    *,
    top: str = "ppm",
    width: int = 64,
    backbone_weights: str = "none",
    **choices: Any,
) -> LPSNet:
    """Build LPSNet on a pretrained network small enough to fine-tune on a CPU.

    Arguments as for ResNet-50.
    """
    backbone = BackbonePyramid(
        "efficientnet_lite0",
        extra=LastLevelP6P7(width, width),
        out_channels=width,
        backbone_weights=backbone_weights,
    )
    return _on(backbone, num_things, num_stuff, top=top, convs=2, **choices)


@register_model("lpsnet_tiny", display_name="LPSNet (tiny)", backbone="residual trunk", size="tiny")
def lpsnet_tiny(
    num_things: int,
    num_stuff: int,
    *,
    top: str = "ppm",
    width: int = 32,
    channels: int = 64,
    **choices: Any,
) -> LPSNet:
    """Build a small LPSNet with points four pixels apart, for objects of one size.

    Args:
        num_things: Thing classes.
        num_stuff: Stuff classes.
        top: As for ResNet-50.
        width: Channels of the trunk at stride 4.
        channels: Channels of the pyramid.
        **choices: As for ResNet-50.
    """
    backbone = TrunkPyramid(width, channels, outputs=("0", "1", "2"))
    lateral = cast(nn.Conv2d, backbone.laterals["2"])
    backbone.laterals["2"] = context_top(top, lateral.in_channels, channels)
    head = DeformableSemanticHead(
        channels, num_things + num_stuff, widths=(32,), levels=("0", "1", "2")
    )
    boxes = PointBoxHead(channels, levels=("0",), strides=(4,), convs=2)
    return LPSNet(backbone, num_things, num_stuff, semantic_head=head, box_head=boxes, **choices)


def _on(
    backbone: BackbonePyramid,
    num_things: int,
    num_stuff: int,
    *,
    top: str,
    convs: int,
    **choices: Any,
) -> LPSNet:
    """Return LPSNet on a pyramid P2-P7, whose top is exchanged."""
    width = backbone.out_channels
    lateral = backbone.fpn.inner_blocks[-1][0]
    backbone.fpn.inner_blocks[-1] = context_top(top, lateral.in_channels, width)
    head = DeformableSemanticHead(width, num_things + num_stuff, widths=(width,))
    boxes = PointBoxHead(
        width, levels=("1", "2", "3", "p6", "p7"), strides=(8, 16, 32, 64, 128), convs=convs
    )
    return LPSNet(backbone, num_things, num_stuff, semantic_head=head, box_head=boxes, **choices)
