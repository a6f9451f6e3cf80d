"""Mask2Former's training: one-to-one matching and losses on sampled points.

Cheng et al., CVPR 2022, section 3.3: masks are compared at points only. Points of the matching
are uniform; those of the loss are mostly where a mask is least certain (Kirillov, Wu, He and
Girshick, "PointRend", CVPR 2020). Axes: N images, Q queries, K classes with "no object" last,
n truth masks of an image, P points, R matched pairs of a batch, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

Pairs = list[tuple[Tensor, Tensor]]
"""For each image the numbers of its matched queries and of the ground truth masks they matched."""


@dataclass(frozen=True)
class MaskTruth:
    """``labels`` int64 [n], ``masks`` bool [n, H, W] of one image."""

    labels: Tensor
    masks: Tensor


@dataclass(frozen=True)
class MaskCriterion:
    """Weights of the parts, for the matching and for the loss, and how points are drawn."""

    points: int = 12_544
    oversample: float = 3.0
    """The uncertain points are the most uncertain of so many times ``points``."""
    importance: float = 0.75
    """Share of the points that are uncertain ones; the others are uniform."""
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object: float = 0.1
    """Weight of the class "no object" beside the others' 1."""

    def __call__(
        self, classes: Tensor, masks: Tensor, truth: Sequence[MaskTruth]
    ) -> dict[str, Tensor]:
        """Return the losses of one prediction: logits [N, Q, K] and [N, Q, H, W]."""
        classes, masks = classes.float(), masks.float()
        pairs = self.match(classes, masks, truth)
        mask, dice = self._mask_losses(masks, truth, pairs)
        return {
            "class": self.class_weight * self._class_loss(classes, truth, pairs),
            "mask": self.mask_weight * mask,
            "dice": self.dice_weight * dice,
        }

    @torch.no_grad()
    def match(self, classes: Tensor, masks: Tensor, truth: Sequence[MaskTruth]) -> Pairs:
        """Return the cheapest one-to-one pairs of queries and ground truth masks of each image."""
        points = torch.rand(len(masks), self.points, 2, device=masks.device)
        sampled = sample_points(masks, points)
        pairs: Pairs = []
        for chances, logits, own, one in zip(
            classes.softmax(-1), sampled, points, truth, strict=True
        ):
            seen = sample_points(one.masks[None].to(logits), own[None])[0]
            cost = (
                self.mask_weight * pairwise_mask_cost(logits, seen)
                + self.dice_weight * pairwise_dice_cost(logits, seen)
                - self.class_weight * chances[:, one.labels]
            )
            rows, columns = linear_sum_assignment(cost.cpu().numpy())
            pairs.append((_indices(rows, masks.device), _indices(columns, masks.device)))
        return pairs

    def _class_loss(self, classes: Tensor, truth: Sequence[MaskTruth], pairs: Pairs) -> Tensor:
        """Return the cross-entropy over all queries; those without a pair are "no object"."""
        absent = classes.shape[-1] - 1
        target = torch.full(classes.shape[:2], absent, device=classes.device)
        for labels, one, (queries, numbers) in zip(target, truth, pairs, strict=True):
            labels[queries] = one.labels[numbers]
        weight = classes.new_ones(absent + 1)
        weight[absent] = self.no_object
        return functional.cross_entropy(classes.transpose(1, 2), target, weight)

    def _mask_losses(
        self, masks: Tensor, truth: Sequence[MaskTruth], pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        """Return binary cross-entropy and Dice of the pairs, a mean over the pairs."""
        logits = torch.cat([m[queries] for m, (queries, _) in zip(masks, pairs, strict=True)])
        with torch.no_grad():
            points = self.uncertain_points(logits)
        found = sample_points(logits[:, None], points)[:, 0]
        wanted = torch.cat([o.masks[n] for o, (_, n) in zip(truth, pairs, strict=True)])
        target = sample_points(wanted[:, None].to(logits), points)[:, 0]
        each = functional.binary_cross_entropy_with_logits(found, target, reduction="none")
        chances = found.sigmoid()
        overlap = 2 * (chances * target).sum(-1) + 1
        dice = 1 - overlap / (chances.sum(-1) + target.sum(-1) + 1)
        number = max(len(logits), 1)
        return each.mean(-1).sum() / number, dice.sum() / number

    def uncertain_points(self, logits: Tensor) -> Tensor:
        """Return points [R, P, 2] of masks [R, H, W], mostly where logits are near 0."""
        number, count = len(logits), round(self.importance * self.points)
        tried = torch.rand(number, round(self.oversample * self.points), 2, device=logits.device)
        certainty = sample_points(logits[:, None], tried)[:, 0].abs()
        nearest = certainty.topk(count, dim=1, largest=False).indices
        uncertain = tried.gather(1, nearest[..., None].expand(-1, -1, 2))
        uniform = torch.rand(number, self.points - count, 2, device=logits.device)
        return torch.cat([uncertain, uniform], dim=1)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Return maps [N, C, H, W] at points [N, P, 2], (x, y) in [0, 1], bilinearly: [N, C, P].

    Outside of the centres of the border's pixels a map fades to 0.
    """
    grid = (2 * points - 1)[:, None]
    return functional.grid_sample(maps, grid, align_corners=False)[:, :, 0]


def pairwise_mask_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean binary cross-entropy [Q, n] of logits [Q, P] and ground truth [n, P]."""
    base = functional.softplus(logits).mean(-1, keepdim=True)
    return base - logits @ truth.T / logits.shape[-1]


def pairwise_dice_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - Dice [Q, n] of logits [Q, P] and truth [n, P], one added above and below."""
    chances = logits.sigmoid()
    total = chances.sum(-1)[:, None] + truth.sum(-1)[None]
    return 1 - (2 * chances @ truth.T + 1) / (total + 1)


def _indices(numbers: object, device: torch.device) -> Tensor:
    return torch.as_tensor(numbers, dtype=torch.int64, device=device)
