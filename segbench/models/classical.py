"""Classical baselines: regions found without learning, each named by a shallow classifier.

An image is cut into regions by a method from before deep networks; colour, texture, place,
form and surroundings of a region are measured, and a kernel classifier names its class. Only
the classifier is trained, on regions labelled by the majority of their pixels. These rows say
what a deep network adds. The cutting runs on the CPU through scikit-image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.types import IGNORE_INDEX
from segbench.layers.region_features import NUM_FEATURES, region_features
from segbench.layers.regions import (
    Image,
    Labels,
    normalized_cut_regions,
    quickshift_regions,
    watershed_regions,
)
from segbench.models.bases.semantic import SemanticModel, SemanticTargets
from segbench.models.registry import register_model

TASK = "semantic"

CACHE_BYTES = 1 << 29
"""Regions of training images are kept while they take no more than this."""
Regions = tuple[Tensor, Tensor]
"""Labels int64 [H, W] and features float32 [R, F] of one image."""


class RegionClassifier(SemanticModel):
    """Cuts images into regions and gives each the scores of a kernel classifier.

    In training mode ``forward`` returns ``region_logits`` [R, C] of all regions of the batch
    and ``regions`` int64 [N, H, W], which number them; otherwise ``logits``. Every image is
    stretched to [0, 1], so the normalisation of a recipe does not matter. A training image
    that comes again as it was is not cut again.

    Args:
        num_classes: Classes C.
        cut: Turns an image [H, W, 3] in [0, 1] into regions [H, W] from 0 without gaps.
        bases: Random Fourier features of the classifier.
    """

    def __init__(
        self, num_classes: int, *, cut: Callable[[Image], Labels], bases: int = 1024
    ) -> None:
        super().__init__(num_classes)
        self.cut = cut
        self.classifier = KernelClassifier(NUM_FEATURES, num_classes, bases=bases)
        self._known: dict[bytes, Regions] = {}
        self._known_bytes = 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return region logits in training mode, else logits [N, C, H, W]."""
        found = [self._regions(image) for image in images.float().cpu().numpy()]
        starts = np.cumsum([0, *(len(features) for _, features in found)])
        labels = [labels + int(n) for (labels, _), n in zip(found, starts, strict=False)]
        regions = torch.stack(labels).to(images.device)
        features = torch.cat([features for _, features in found]).to(images.device)
        scores: Tensor = self.classifier(features)
        if self.training:
            return {"region_logits": scores, "regions": regions}
        return {"logits": scores[regions].permute(0, 3, 1, 2)}

    def loss(self, outputs: Mapping[str, Any], targets: SemanticTargets) -> dict[str, Tensor]:
        """Return the loss of the regions, each weighted by its labelled pixels.

        A region's class is that of most of its labelled pixels; one without any is ignored.
        """
        if "region_logits" not in outputs or targets.semantic is None:
            return super().loss(outputs, targets)
        scores = outputs["region_logits"]
        votes = count_votes(outputs["regions"], targets.semantic, *scores.shape)
        areas = votes.sum(1)
        labels = votes.argmax(1).masked_fill(areas == 0, IGNORE_INDEX)
        value = self.criterion(
            scores.T[None, :, :, None],
            labels[None, :, None],
            class_weights=self.class_weights,
            pixel_weights=(areas / areas.mean().clamp_min(1))[None, :, None],
        )
        return {self.criterion.name: value}

    def _regions(self, image: np.ndarray[Any, Any]) -> Regions:
        """Return the regions of an image [3, H, W], from memory where it was trained on."""
        if not self.training:
            return self._cut(image)
        key = hashlib.blake2b(image.tobytes() + str(image.shape).encode()).digest()
        if key in self._known:
            return self._known[key]
        found = self._cut(image)
        size = sum(tensor.nbytes for tensor in found)
        if self._known_bytes + size <= CACHE_BYTES:
            self._known[key] = found
            self._known_bytes += size
        return found

    def _cut(self, image: np.ndarray[Any, Any]) -> Regions:
        low, high = float(image.min()), float(image.max())
        stretched = (image.transpose(1, 2, 0).astype(np.float64) - low) / max(high - low, 1e-6)
        labels = self.cut(stretched)
        return torch.from_numpy(labels), torch.from_numpy(region_features(stretched, labels))


class KernelClassifier(nn.Module):
    """Logistic regression on features and on random Fourier features of them.

    Rahimi and Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007: the cosines
    stand for a Gaussian kernel whose width is the root of the number of features, after each
    feature is brought to mean 0 and variance 1; predictions use the average of the batches'
    means and variances. Directions and phases are never trained.

    Args:
        in_features: Features F.
        num_classes: Classes C.
        bases: Number of cosines.
    """

    directions: Tensor
    phases: Tensor

    def __init__(self, in_features: int, num_classes: int, *, bases: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_features, affine=False, momentum=None)
        self.register_buffer("directions", torch.randn(in_features, bases) / in_features**0.5)
        self.register_buffer("phases", 2 * torch.pi * torch.rand(bases))
        self.linear = nn.Linear(in_features + bases, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores [R, C] of features [R, F]; a lone region has no statistics of its own."""
        if self.training and len(features) > 1:
            scaled = self.norm(features)
        else:
            scaled = functional.batch_norm(features, self.norm.running_mean, self.norm.running_var)
        cosines = torch.cos(scaled @ self.directions + self.phases)
        scores: Tensor = self.linear(torch.cat([scaled, cosines], dim=1))
        return scores


def count_votes(regions: Tensor, semantic: Tensor, number: int, num_classes: int) -> Tensor:
    """Return float32 [number, C]: the pixels of each class in each region, ignored ones aside."""
    labelled = semantic != IGNORE_INDEX
    places = regions[labelled] * num_classes + semantic[labelled]
    votes = torch.bincount(places, minlength=number * num_classes)
    return votes.view(number, num_classes).float()


@register_model(
    "classical_watershed",
    paper="Watersheds in Digital Spaces: An Efficient Algorithm Based on Immersion Simulations",
    year=1991,
    display_name="Watershed + region classifier",
    size="tiny",
    deep=False,
)
def classical_watershed(
    num_classes: int, *, sigma: float = 0.7, depth: float = 4.0, merge: float = 8.0
) -> RegionClassifier:
    """Return watershed regions of the colour gradient with a kernel classifier."""
    cut = partial(watershed_regions, sigma=sigma, depth=depth, merge=merge)
    return RegionClassifier(num_classes, cut=cut)


@register_model(
    "classical_normalized_cut",
    paper="Normalized Cuts and Image Segmentation",
    year=2000,
    display_name="Normalised cut + region classifier",
    size="tiny",
    deep=False,
)
def classical_normalized_cut(
    num_classes: int,
    *,
    superpixels: int = 100,
    compactness: float = 10.0,
    sigma: float = 20.0,
    threshold: float = 0.05,
) -> RegionClassifier:
    """Return normalised cuts over SLIC superpixels with a kernel classifier."""
    cut = partial(
        normalized_cut_regions,
        superpixels=superpixels,
        compactness=compactness,
        sigma=sigma,
        threshold=threshold,
    )
    return RegionClassifier(num_classes, cut=cut)


@register_model(
    "classical_quickshift",
    paper="Quick Shift and Kernel Methods for Mode Seeking",
    year=2008,
    display_name="Quick shift + region classifier",
    size="tiny",
    deep=False,
)
def classical_quickshift(
    num_classes: int,
    *,
    sigma: float = 0.5,
    kernel_size: float = 2.0,
    max_distance: float = 8.0,
    ratio: float = 0.3,
    merge: float = 8.0,
) -> RegionClassifier:
    """Return quick shift regions, the quick form of mean shift, with a kernel classifier."""
    cut = partial(
        quickshift_regions,
        sigma=sigma,
        kernel_size=kernel_size,
        max_distance=max_distance,
        ratio=ratio,
        merge=merge,
    )
    return RegionClassifier(num_classes, cut=cut)
