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
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.roi_heads import maskrcnn_inference, paste_masks_in_image

from segbench.errors import ConfigError
from segbench.models._pyramid import Pyramid
from segbench.types import BoolArray, FloatArray, Instances, Prediction

Sizes = Sequence[tuple[int, int]]


class DetectionTargets(Protocol):
    """The part of ``segbench.data.Targets`` that a box-based loss reads."""

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
    ``forward`` computes the features only; regions depend on the truth (``loss``) or on the
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
        return [Prediction(instances=found) for found in self.detect(outputs, sizes)]

    @torch.no_grad()
    def detect(self, outputs: dict[str, Any], sizes: Sizes) -> list[Instances]:
        """Return the objects with a score above ``score_threshold``, masks at image size."""
        self.roi_heads.score_thresh = self.score_threshold
        with _phase(self.rpn, self.roi_heads, training=False):
            proposals, _ = self._propose(outputs, sizes, None)
            found, _ = self.roi_heads(outputs["features"], proposals, list(sizes))
        return [_paste(objects, size) for objects, size in zip(found, sizes, strict=True)]

    def objects(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None
    ) -> list[Instances]:
        """Return ``detect``, or ``segment`` where ``boxes`` are given."""
        if boxes is None:
            return self.detect(outputs, sizes)
        return self.segment(outputs, sizes, boxes)

    @torch.no_grad()
    def segment(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances]
    ) -> list[Instances]:
        """Return masks for given ``boxes`` and ``labels`` (things from 1); every score is 1."""
        heads, device = self.roi_heads, outputs["images"].device
        corners = [torch.as_tensor(objects.boxes, device=device).float() for objects in boxes]
        labels = [torch.as_tensor(objects.labels, device=device).long() for objects in boxes]
        regions = heads.mask_roi_pool(outputs["features"], corners, list(sizes))
        logits = heads.mask_predictor(heads.mask_head(regions))
        found = [
            {"boxes": b, "labels": n, "masks": m, "scores": torch.ones(len(n), device=device)}
            for b, n, m in zip(corners, labels, maskrcnn_inference(logits, labels), strict=True)
        ]
        return [_paste(objects, size) for objects, size in zip(found, sizes, strict=True)]

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
