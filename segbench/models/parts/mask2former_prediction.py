"""What the queries of Mask2Former say of an image: objects, stuff and a semantic map.

As in the authors' code: an object is a pair of a query and a class, judged by the chance of the
class and by how sure its mask is; the semantic map is the mixture of all queries. Axes: N
images or objects, Q queries, C classes, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segbench.core.types import Instances
from segbench.layers.boxes import boxes_of
from segbench.layers.conv import resize
from segbench.layers.query_merge import ScoredMasks
from segbench.models.bases.detection import Sizes
from segbench.models.bases.panoptic import PanopticParts

MASK_STRIDE = 4
TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class QueryParts(PanopticParts):
    """Parts of a panoptic prediction that were found by queries.

    The objects are pairs of a query and a thing class, so that one query may be listed twice.
    """

    class_scores: Tensor
    """Chance of the class of each object [N]; ``instances.scores`` also judges the mask."""
    stuff: ScoredMasks
    """The queries whose likeliest class is stuff."""
    own_scores: Tensor
    """``scores`` as the network gave them."""


def found_by_queries(
    classes: Tensor, chances: Tensor, *, num_things: int, score_threshold: float
) -> QueryParts:
    """Return the parts of one image.

    Args:
        classes: Chance of each class [Q, C].
        chances: Chance that a pixel belongs to the mask of a query [Q, h, w].
        num_things: The first classes, of objects.
        score_threshold: Objects judged worse are left out.
    """
    scores = mixture(classes[None], chances[None])[0]
    class_scores, pairs = classes.flatten().topk(min(len(classes), classes.numel()))
    queries, labels = pairs // classes.shape[1], pairs % classes.shape[1]
    inside = chances > 0.5
    quality = (chances * inside).sum((1, 2)) / (inside.sum((1, 2)) + TINY)
    judged = class_scores * quality[queries]
    kept = (labels < num_things) & inside.any(2).any(1)[queries]
    kept &= judged >= score_threshold
    queries, labels = queries[kept], labels[kept]
    masks = inside[queries]
    best, favourite = classes.max(dim=1)
    stuff = favourite >= num_things
    return QueryParts(
        Instances(
            masks=masks.cpu().numpy(),
            labels=(labels + 1).cpu().numpy(),
            boxes=boxes_of(masks).cpu().numpy(),
            scores=judged[kept].cpu().numpy(),
        ),
        scores,
        mask_scores=chances[queries].cpu().numpy(),
        class_scores=class_scores[kept],
        stuff=ScoredMasks(favourite, best, chances)[stuff],
        own_scores=scores,
    )


def thing_masks(parts: PanopticParts) -> ScoredMasks:
    """Return the masks of the objects, with the chance of their class."""
    found, device = parts.instances, parts.scores.device
    scores = torch.as_tensor(found.scores, device=device)
    if isinstance(parts, QueryParts):
        scores = parts.class_scores
    chances = found.masks if parts.mask_scores is None else parts.mask_scores
    labels = torch.as_tensor(found.labels, device=device) - 1
    return ScoredMasks(labels, scores, torch.as_tensor(chances, device=device).float())


def stuff_masks(parts: PanopticParts, num_things: int) -> ScoredMasks:
    """Return the queries of stuff, or a certain mask of each stuff class ``scores`` favour.

    The latter where ``scores`` are not the network's own.
    """
    if isinstance(parts, QueryParts) and parts.scores is parts.own_scores:
        return parts.stuff
    strongest, best = parts.scores.max(dim=0)
    labels = torch.unique(best)
    labels = labels[labels >= num_things]
    shown = (best == labels[:, None, None]) & (strongest > parts.scores.amin(dim=0))
    return ScoredMasks(labels, torch.ones_like(labels).float(), shown.float())


def mask_chances(masks: Tensor, sizes: Sizes) -> list[Tensor]:
    """Return the chances [Q, h, w] of the mask logits of each image at its valid size."""
    size = (MASK_STRIDE * masks.shape[-2], MASK_STRIDE * masks.shape[-1])
    return [
        resize(logits[None].float(), size)[0, :, :h, :w].sigmoid()
        for logits, (h, w) in zip(masks, sizes, strict=True)
    ]


def mixture(classes: Tensor, chances: Tensor) -> Tensor:
    """Return log of the sum over queries of class chance x mask chance, [N, C, H, W]."""
    with torch.autocast(chances.device.type, enabled=False):
        return torch.einsum("nqc,nqhw->nchw", classes, chances).clamp_min(TINY).log()
