"""What panoptic models share: the parts that a prediction is merged from.

A panoptic network says two things of an image, objects and a semantic map, and joins them.
Keeping the parts apart until ``merge`` lets an oracle put the ground truth in the place of one of
them (LPSNet, CVPR 2021, Table 6). Axes: N objects, S semantic channels of the model, H rows,
W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from segbench.core.types import FloatArray, Instances, IntArray, Prediction
from segbench.models.bases.detection import Sizes

CERTAIN = 20.0
"""Logit of what the ground truth says; all else is 0, a chance of at most e^-20 for each."""


@dataclass(frozen=True)
class PanopticParts:
    """What a panoptic model knows of one image before it gives each pixel to one segment."""

    instances: Instances
    """Objects, labels from 1 in thing order; ``scores`` in [0, 1]."""
    scores: Tensor
    """Semantic logits float32 [S, H, W] in the model's own channels."""
    mask_scores: FloatArray | None = None
    """Chance float32 [N, H, W] that a pixel belongs to an object; None: ``masks`` say it."""


class PanopticModel(Protocol):
    """A panoptic network: parts of a prediction, and how they are joined."""

    @property
    def replaceable(self) -> tuple[str, ...]:
        """Return which of ``semantic``, ``boxes`` and ``masks`` an oracle may replace.

        What ``parts`` cannot take, or ``merge`` does not read, is left out.
        """

    def parts(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[PanopticParts]:
        """Return the parts of each image at its valid size.

        Args:
            outputs: What ``forward`` returned.
            sizes: Valid (height, width) of each image.
            boxes: Objects whose ``boxes`` and ``labels`` stand for those the network would
                find, each with score 1; only their masks are the network's. None: its own.
        """

    def truth_scores(self, semantic: Tensor) -> Tensor:
        """Return ``PanopticParts.scores`` that are certain of a map of panoptic indices.

        Args:
            semantic: int64 [H, W], 255 ignored: there all channels are 0.
        """

    def merge(self, parts: PanopticParts) -> Prediction:
        """Return semantic map (panoptic indices), instances and panoptic map of one image."""


class MergedPrediction:
    """Mixin of the models whose prediction is nothing but their merged parts."""

    replaceable: tuple[str, ...] = ("semantic", "boxes", "masks")

    @torch.no_grad()
    def predict(self: PanopticModel, outputs: dict[str, Any], sizes: Sizes) -> list[Prediction]:
        """Return instances, the merged panoptic map and a semantic map of each image."""
        return [self.merge(parts) for parts in self.parts(outputs, sizes)]


def certain(labels: Tensor, num_channels: int) -> Tensor:
    """Return logits [S, H, W] sure of ``labels`` int64 [H, W]; labels outside 0..S-1 give 0."""
    channels = torch.arange(num_channels, device=labels.device).view(-1, 1, 1)
    return CERTAIN * (labels[None] == channels).float()


def label_map(scores: Tensor) -> IntArray:
    """Return the channel of the largest of logits [S, H, W], uint8 or, of many, uint16 [H, W]."""
    labels: IntArray = scores.argmax(dim=0).cpu().numpy()
    return labels.astype(np.uint8 if len(scores) <= 255 else np.uint16)
