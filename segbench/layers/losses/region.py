"""Losses on how the regions of the classes overlap, over all pixels of a batch at once.

Axes and ignored pixels as in ``segbench.layers.losses.pixel``. Each is a mean over the classes
present in ``target``, weighted by ``class_weights`` [C]; absent classes have no overlap to
gain.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segbench.core.types import IGNORE_INDEX
from segbench.layers.losses.pixel import TINY, exact


def dice(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    class_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return 1 - the mean of (2 |P and T| + smooth) / (|P| + |T| + smooth), a scalar.

    Milletari et al., "V-Net", 3DV 2016; ``smooth``, the epsilon, is in pixels.
    """
    overlap, predicted, true = _regions(logits, target, ignore_index)
    missing = 1 - (2 * overlap + smooth) / (predicted + true + smooth)
    return _mean_of_present(missing, true, class_weights)


def jaccard(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    class_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return 1 - the mean of (|P and T| + smooth) / (|P or T| + smooth), a scalar.

    Rahman and Wang, "Optimizing Intersection-over-Union in Deep Neural Networks for Image
    Segmentation", ISVC 2016: products and sums of probabilities in place of sets.
    """
    overlap, predicted, true = _regions(logits, target, ignore_index)
    missing = 1 - (overlap + smooth) / (predicted + true - overlap + smooth)
    return _mean_of_present(missing, true, class_weights)


def lovasz(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return the mean Lovász extension of the Jaccard loss of each class, a scalar.

    Berman, Rannen Triki and Blaschko, "The Lovász-Softmax Loss", CVPR 2018. With one-hot
    probabilities it is 1 - IoU; between them it is the tightest convex extension.
    """
    counted = target != ignore_index
    probability = exact(logits).softmax(dim=1).movedim(1, -1)[counted]
    labels = target[counted]
    if len(labels) == 0:
        return exact(logits).sum() * 0
    present = torch.unique(labels)
    values = torch.stack([_lovasz_of(probability[:, c], labels == c) for c in present.tolist()])
    weight = torch.ones_like(values) if class_weights is None else class_weights.to(values)[present]
    return (weight * values).sum() / weight.sum().clamp_min(TINY)


def _lovasz_of(probability: Tensor, truth: Tensor) -> Tensor:
    """Return the extension at the errors of one class; ``truth`` bool [P]."""
    errors = (truth.to(probability) - probability).abs()
    errors, order = errors.sort(descending=True)
    truth = truth[order].long()
    # How the Jaccard loss grows as pixels are wrong, from the largest error on; whole numbers.
    missed, false = truth.cumsum(0), (1 - truth).cumsum(0)
    total = missed[-1]
    loss = 1 - (total - missed).to(errors) / (total + false).to(errors)
    return (errors * loss.diff(prepend=loss.new_zeros(1))).sum()


def _regions(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums over counted pixels of p * t, p and t for each class, [C] each."""
    counted = target != ignore_index
    probability = exact(logits).softmax(dim=1) * counted[:, None]
    classes = functional.one_hot(target.where(counted, 0), logits.shape[1]).movedim(-1, 1)
    truth = (classes * counted[:, None]).to(probability)
    axes = (0, 2, 3)
    return (probability * truth).sum(axes), probability.sum(axes), truth.sum(axes)


def _mean_of_present(values: Tensor, true: Tensor, class_weights: Tensor | None) -> Tensor:
    weight = (true > 0).to(values)
    if class_weights is not None:
        weight = weight * class_weights.to(values)
    return (weight * values).sum() / weight.sum().clamp_min(TINY)
