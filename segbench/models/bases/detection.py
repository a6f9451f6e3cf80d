"""What the box-based models share, built from the parts of ``torchvision.models.detection``.

Images arrive normalised and batched, so ``GeneralizedRCNNTransform`` is left out and the
region proposal network, the RoI heads and the anchors are driven directly. Images of a batch
may be padded on the right and below; sizes (height, width) say which part is valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference, paste_masks_in_image

from segbench.core.errors import ConfigError
from segbench.core.types import BoolArray, FloatArray, Instances, Prediction
from segbench.models.parts.feature_pyramid import Pyramid

Sizes = Sequence[tuple[int, int]]


class DetectionTargets(Protocol):
    """The part of ``segbench.training.data.Targets`` that a box-based loss reads."""

    @property
    def semantic(self) -> Tensor | None:
        """Return int64 [N, H, W], 255 ignored."""

    @property
    def instances(self) -> Sequence[dict[str, Tensor]] | None:
        """Return one dict an image: ``boxes`` [n, 4], ``labels`` [n] from 1, ``masks``."""

    @property
    def sizes(self) -> Sizes:
        """Return the valid (height, width) of each image."""


class TwoStageDetector(nn.Module):
    """Mask R-CNN: a pyramid, region proposals, and box and mask heads on aligned regions.

    Parameters carry the names torchvision gives them, so its checkpoints load unchanged.
    ``forward`` computes the features only; regions depend on the ground truth (``loss``) or on the
    valid sizes (``predict``).

    Args:
        backbone: Features and their pyramid.
        num_classes: Things + 1; None when ``parts`` brings its own predictors.
        proposal_levels: Maps that propose regions; None takes all.
        **parts: Settings of torchvision's ``MaskRCNN`` (anchors, samplers, heads).
    """

    def __init__(
        self,
        backbone: Pyramid,
        num_classes: int | None,
        *,
        proposal_levels: tuple[str, ...] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__()
        detector = TorchvisionMaskRCNN(backbone, num_classes, **parts)
        self.backbone = backbone
        self.rpn = detector.rpn
        self.roi_heads = detector.roi_heads
        self.proposal_levels = proposal_levels
        self.score_threshold = 0.05

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return ``{"images": [N, 3, H, W], "features": {level: [N, C, h, w]}}``."""
        return {"images": images, "features": self.backbone(images)}

    def loss(self, outputs: dict[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return the proposal, box and mask losses of ``targets.instances``, as torchvision."""
        truth = detection_truth(targets)
        with _phase(self.rpn, self.roi_heads, training=True):
            proposals, proposal_losses = self._propose(outputs, targets.sizes, truth)
            _, region_losses = self.roi_heads(
                outputs["features"], proposals, list(targets.sizes), truth
            )
        return {**proposal_losses, **region_losses}

    def predict(self, outputs: dict[str, Any], sizes: Sizes) -> list[Prediction]:
        """Return the instances of each image, best first; labels are thing numbers from 1."""
        return [Prediction(instances=found) for found in self.objects(outputs, sizes)]

    def objects(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[Instances]:
        """Return the objects with a score above ``score_threshold``, masks at image size.

        Where ``boxes`` are given, their ``boxes`` and ``labels`` (things from 1) with masks for
        them and a score of 1.
        """
        return paste(self.regions(outputs, sizes, boxes), sizes)

    @torch.no_grad()
    def regions(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[dict[str, Tensor]]:
        """Return ``objects`` with the masks of their boxes, not of the image.

        ``boxes`` [n, 4], ``labels`` [n] from 1, ``scores`` [n], best first, and ``masks``, the
        chance of each of 28x28 parts of a box, [n, 1, 28, 28]. Given ``boxes`` keep their order.
        """
        if boxes is not None:
            return self._given(outputs, sizes, boxes)
        self.roi_heads.score_thresh = self.score_threshold
        with _phase(self.rpn, self.roi_heads, training=False):
            proposals, _ = self._propose(outputs, sizes, None)
            found, _ = self.roi_heads(outputs["features"], proposals, list(sizes))
        return list(found)

    def mask_logits(self, outputs: dict[str, Any], sizes: Sizes, corners: list[Tensor]) -> Tensor:
        """Return [R, things + 1, 28, 28] of the boxes [r, 4] of all images, in their order."""
        heads = self.roi_heads
        regions = heads.mask_roi_pool(outputs["features"], corners, list(sizes))
        logits: Tensor = heads.mask_predictor(heads.mask_head(regions))
        return logits

    def _given(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances]
    ) -> list[dict[str, Tensor]]:
        device = outputs["images"].device
        corners = [torch.as_tensor(objects.boxes, device=device).float() for objects in boxes]
        labels = [torch.as_tensor(objects.labels, device=device).long() for objects in boxes]
        masks = maskrcnn_inference(self.mask_logits(outputs, sizes, corners), labels)
        return [
            {"boxes": b, "labels": n, "masks": m, "scores": torch.ones(len(n), device=device)}
            for b, n, m in zip(corners, labels, masks, strict=True)
        ]

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that ``backbone_lr_factor`` applies to."""
        yield from self.backbone.body_parameters()

    def _propose(
        self, outputs: dict[str, Any], sizes: Sizes, truth: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        features = outputs["features"]
        if self.proposal_levels is not None:
            features = {level: features[level] for level in self.proposal_levels}
        images = ImageList(outputs["images"], list(sizes))
        proposals, losses = self.rpn(images, features, truth)
        return proposals, losses


class ThingBoxPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """Scores for things and background, box regression for things only.

    Args:
        in_channels: Channels of a pooled region.
        num_things: Thing classes.
    """

    def __init__(self, in_channels: int, num_things: int) -> None:
        super().__init__(in_channels, num_things + 1)
        self.bbox_pred = nn.Linear(in_channels, 4 * num_things)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [R, T + 1] and regression [R, 4 (T + 1)], zero for the background."""
        scores, deltas = super().forward(regions)
        return scores, functional.pad(deltas, (4, 0))


class ThingMaskPredictor(MaskRCNNPredictor):  # type: ignore[misc]
    """Mask logits of things; the background, which no loss and no result reads, is zero."""

    def forward(self, regions: Tensor) -> Tensor:
        """Return logits [R, T + 1, 28, 28] of regions [R, C, 14, 14]."""
        return functional.pad(super().forward(regions), (0, 0, 0, 0, 1, 0))


def detection_truth(targets: DetectionTargets) -> list[dict[str, Tensor]]:
    """Return the objects of each image without those whose box is empty.

    Raises:
        ConfigError: The targets hold no instances.
    """
    if targets.instances is None:
        raise ConfigError("a box-based model needs targets with instances; found none")
    return [_drop_empty(objects) for objects in targets.instances]


def _drop_empty(objects: dict[str, Tensor]) -> dict[str, Tensor]:
    boxes = objects["boxes"]
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return {key: objects[key][keep] for key in ("boxes", "labels", "masks")}


def paste(found: Sequence[dict[str, Tensor]], sizes: Sizes) -> list[Instances]:
    """Return ``TwoStageDetector.regions`` with masks at the size of their images."""
    return [_paste(objects, size) for objects, size in zip(found, sizes, strict=True)]


def _paste(objects: dict[str, Tensor], size: tuple[int, int]) -> Instances:
    masks = paste_masks_in_image(objects["masks"].float(), objects["boxes"], size, padding=1)
    return to_instances(objects, (masks[:, 0] >= 0.5).cpu().numpy())


def to_instances(objects: dict[str, Tensor], masks: BoolArray) -> Instances:
    """Return torchvision's detections of one image with bool masks [n, H, W]."""
    boxes: FloatArray = objects["boxes"].detach().float().cpu().numpy()
    return Instances(
        masks=masks.astype(bool),
        labels=objects["labels"].cpu().numpy().astype(np.int64),
        boxes=boxes,
        scores=objects["scores"].detach().float().cpu().numpy(),
    )


@contextmanager
def _phase(*parts: nn.Module, training: bool) -> Iterator[None]:
    """Switch the flag by which torchvision's parts choose between losses and detections."""
    before = [part.training for part in parts]
    try:
        for part in parts:
            part.training = training
        yield
    finally:
        for part, flag in zip(parts, before, strict=True):
            part.training = flag
