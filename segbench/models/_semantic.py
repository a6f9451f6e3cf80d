"""What every semantic network shares: loss, prediction and the split of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from segbench.errors import ConfigError
from segbench.layers.conv import resize
from segbench.losses import cross_entropy
from segbench.types import Prediction


class SemanticTargets(Protocol):
    """The part of ``segbench.data.Targets`` that a semantic loss reads."""

    @property
    def semantic(self) -> Tensor | None:
        """Train ids int64 [N, H, W], 255 ignored."""


class SemanticModel(nn.Module):
    """Base of semantic networks; a subclass writes ``forward``.

    ``forward(images)`` takes float32 [N, 3, H, W] and returns ``{"logits": [N, C, H, W]}``,
    at the size of the images, and optionally ``"aux"``, a list of maps of the same classes
    at any size. A pretrained part is kept in the attribute ``backbone``.

    Args:
        num_classes: Output channels C.
        aux_weight: Weight of each auxiliary map in the loss.
    """

    class_weights: Tensor | None

    def __init__(self, num_classes: int, *, aux_weight: float = 0.4) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"num_classes must be at least 2, found {num_classes}")
        self.num_classes = num_classes
        self.aux_weight = aux_weight
        self.register_buffer("class_weights", None, persistent=False)

    def loss(self, outputs: Mapping[str, Any], targets: SemanticTargets) -> dict[str, Tensor]:
        """Return the cross-entropy of the logits and, weighted, of the auxiliary maps.

        ``class_weights`` [C], set by the trainer, weigh the classes. 0 where every pixel
        is ignored.
        """
        semantic = _truth(targets)
        losses = {"cross_entropy": self._cross_entropy(outputs["logits"], semantic)}
        auxiliary = [self._cross_entropy(logits, semantic) for logits in outputs.get("aux") or ()]
        if auxiliary:
            losses["aux"] = self.aux_weight * sum(auxiliary[1:], auxiliary[0])
        return losses

    def predict(
        self, outputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        """Return one label map an image: logits resized to (height, width), then argmax."""
        dtype = np.uint8 if self.num_classes <= 255 else np.uint16
        return [
            Prediction(
                semantic=resize(logits[None].float(), (height, width))[0]
                .argmax(0)
                .cpu()
                .numpy()
                .astype(dtype)
            )
            for logits, (height, width) in zip(outputs["logits"], sizes, strict=True)
        ]

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that ``backbone_lr_factor`` applies to."""
        backbone = getattr(self, "backbone", None)
        if isinstance(backbone, nn.Module):
            yield from backbone.parameters()

    def _cross_entropy(self, logits: Tensor, semantic: Tensor) -> Tensor:
        height, width = semantic.shape[-2:]
        logits = resize(logits, (height, width))
        return cross_entropy(logits, semantic, class_weights=self.class_weights)


def _truth(targets: SemanticTargets) -> Tensor:
    if targets.semantic is None:
        raise ConfigError("a semantic model needs targets with a semantic label map; found none")
    return targets.semantic
