"""Oracle ablations: the ground truth in the place of one part of what a panoptic model says.

What would a network score if its semantic map, its boxes or its masks were perfect and all
else stayed its own? (LPSNet, Hong et al., CVPR 2021, Table 6.) The parts are exchanged
before the model merges them (``segbench.models.bases.panoptic``), so its own rules still apply.

- ``semantic``: the semantic logits are certain of the true classes.
- ``boxes``: boxes and classes of the true objects, each with score 1; their masks are the
  network's.
- ``masks``: a found object gets the mask of the true object of its class that its box
  overlaps best, at an IoU of at least 0.5; by falling score, each true object once. Box, class
  and score stay. Objects without such a partner keep their mask: false positives remain.

Crowds are no objects, so no oracle finds or masks one. Pixels without a true class (void,
and crowds where the prepared label map leaves them out) favour no class in ``semantic``.
Protocols score neither. A recipe that predicts at another size gets the truth at that size, so
what the resizing loses is lost here too. Axes: N objects, S semantic channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from segbench.core.errors import ConfigError
from segbench.core.types import Instances, IntArray, Prediction, Sample
from segbench.inference.to_size import to_size
from segbench.models.bases.panoptic import PanopticModel, PanopticParts

MATCH_IOU = 0.5
"""Least box IoU at which a found object is taken for a true one."""


@dataclass(frozen=True)
class Truth:
    """The ground truth of one image, at its size.

    ``semantic`` uint8 [H, W] panoptic indices, 255 where there is none; ``objects`` without
    crowds and without objects that show no pixel, labels from 1 in thing order.
    """

    semantic: IntArray
    objects: Instances

    def at(self, size: tuple[int, int]) -> Truth:
        """Return the truth of the image resized to (height, width), as labels are resized."""
        resized = to_size(Prediction(self.semantic, self.objects), size)
        assert resized.semantic is not None and resized.instances is not None
        return Truth(resized.semantic, resized.instances)


def truth_of(sample: Sample) -> Truth:
    """Return the ground truth of a sample that was read for a panoptic model."""
    if sample.semantic is None or sample.instances is None:
        raise ValueError("an oracle needs samples with a semantic map and objects")
    objects = sample.instances
    seen = objects.masks.any(axis=(1, 2))
    return Truth(
        sample.semantic,
        Instances(objects.masks[seen], objects.labels[seen], objects.boxes[seen]),
    )


def check_oracles(model: nn.Module, name: str, oracles: Collection[str]) -> None:
    """Refuse an oracle of a part that a model has not.

    Args:
        model: The network.
        name: Its id, for the message.
        oracles: ``semantic``, ``boxes``, ``masks``.

    Raises:
        ConfigError: The model has no such part, or does not say what its parts are.
    """
    known: tuple[str, ...] = getattr(model, "replaceable", ())
    if not known:
        raise ConfigError(
            f"model '{name}' cannot be given the truth of {' and '.join(oracles)}: it merges "
            "its prediction in one step",
            fix="leave out --oracle, or give the model the methods of models.bases.panoptic",
        )
    for oracle in oracles:
        if oracle not in known:
            raise ConfigError(
                f"model '{name}' has no {oracle} of its own that the truth could replace",
                fix=f"for this model an oracle is of {' or '.join(known)}",
            )


def predict_with_truth(
    model: PanopticModel,
    outputs: dict[str, Any],
    truths: Sequence[Truth],
    oracles: Collection[str],
) -> list[Prediction]:
    """Return the predictions of a batch with the ground truth in place of the parts in ``oracles``.

    Args:
        model: A panoptic network.
        outputs: What its ``forward`` returned.
        truths: The ground truth of each image, which also says its valid size.
        oracles: ``semantic``, ``boxes``, ``masks``, any of them together.
    """
    sizes = [(truth.semantic.shape[0], truth.semantic.shape[1]) for truth in truths]
    boxes = [truth.objects for truth in truths] if "boxes" in oracles else None
    found = model.parts(outputs, sizes, boxes)
    return [
        model.merge(_exchanged(model, parts, truth, oracles))
        for parts, truth in zip(found, truths, strict=True)
    ]


def _exchanged(
    model: PanopticModel, parts: PanopticParts, truth: Truth, oracles: Collection[str]
) -> PanopticParts:
    if "masks" in oracles:
        parts = true_masks(parts, truth.objects)
    if "semantic" in oracles:
        labels = torch.from_numpy(truth.semantic.astype(np.int64)).to(parts.scores.device)
        parts = replace(parts, scores=model.truth_scores(labels).to(parts.scores.dtype))
    return parts


def true_masks(parts: PanopticParts, truth: Instances) -> PanopticParts:
    """Return the parts with the masks of the true objects that were found."""
    masks = parts.instances.masks.copy()
    chances = None if parts.mask_scores is None else parts.mask_scores.copy()
    for place, partner in match_objects(parts.instances, truth):
        masks[place] = truth.masks[partner]
        if chances is not None:
            chances[place] = truth.masks[partner]
    return replace(parts, instances=replace(parts.instances, masks=masks), mask_scores=chances)


def match_objects(found: Instances, truth: Instances) -> list[tuple[int, int]]:
    """Return (found, true) pairs of one class by box IoU, found objects by falling score.

    Ties of score and of IoU go to the object listed first.
    """
    if not len(found) or not len(truth):
        return []
    overlaps = box_iou(_corners(found), _corners(truth)).numpy()
    overlaps[found.labels[:, None] != truth.labels[None]] = 0.0
    scores = np.ones(len(found)) if found.scores is None else found.scores
    pairs = []
    for place in np.argsort(-scores, kind="stable").tolist():
        partner = int(overlaps[place].argmax())
        if overlaps[place, partner] >= MATCH_IOU:
            pairs.append((place, partner))
            overlaps[:, partner] = 0.0
    return pairs


def _corners(objects: Instances) -> Tensor:
    return torch.from_numpy(objects.boxes.astype(np.float64))
