"""The loss a recipe chooses, for a semantic network's maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from segbench.layers.losses.pixel import cross_entropy, focal, ohem
from segbench.layers.losses.region import dice, jaccard, lovasz

LOSSES: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "cross_entropy": (cross_entropy, ()),
    "ohem": (ohem, ("threshold", "min_kept")),
    "focal": (focal, ("gamma",)),
    "dice": (dice, ("smooth",)),
    "jaccard": (jaccard, ("smooth",)),
    "lovasz": (lovasz, ()),
}
"""``loss:`` of a recipe -> function and the ``loss_*`` keys it takes."""
OF_REGIONS = frozenset({"dice", "jaccard", "lovasz"})


@dataclass(frozen=True)
class Criterion:
    """One loss with its settings, and cross-entropy added to it; a recipe's ``loss_*`` keys."""

    name: str = "cross_entropy"
    threshold: float = 0.7
    min_kept: int = 100_000
    gamma: float = 2.0
    smooth: float = 1.0
    cross_entropy: float = 0.0
    """Weight of a cross-entropy beside another loss."""

    def __call__(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        class_weights: Tensor | None = None,
        pixel_weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of logits [N, C, H, W], a scalar; regions have no pixel weights."""
        function, keys = LOSSES[self.name]
        settings: dict[str, Any] = {key: getattr(self, key) for key in keys}
        weights: dict[str, Any] = {"class_weights": class_weights, "pixel_weights": pixel_weights}
        if self.name in OF_REGIONS:
            settings["class_weights"] = class_weights
        else:
            settings |= weights
        value = function(logits, target, **settings)
        if self.cross_entropy:
            value = value + self.cross_entropy * cross_entropy(logits, target, **weights)
        return value
