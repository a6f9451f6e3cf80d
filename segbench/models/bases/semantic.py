"""What every semantic network shares: loss, prediction and the split of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from segbench.core.errors import ConfigError
from segbench.core.types import Prediction
from segbench.layers.conv import resize
from segbench.layers.losses.criterion import Criterion


class SemanticTargets(Protocol):
    """The part of ``segbench.training.data.Targets`` that a semantic loss reads."""

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

    own_loss = False
    """Whether the loss is the architecture's alone, so that a recipe cannot choose one."""
    class_weights: Tensor | None

    def __init__(self, num_classes: int, *, aux_weight: float = 0.4) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"num_classes must be at least 2, found {num_classes}")
        self.num_classes = num_classes
        self.aux_weight = aux_weight
        self.aux_weights: tuple[float, ...] | None = None
        self.criterion = Criterion()
        self.register_buffer("class_weights", None, persistent=False)

    def loss(self, outputs: Mapping[str, Any], targets: SemanticTargets) -> dict[str, Tensor]:
        """Return the loss of the logits and, weighted, of the auxiliary maps.

        ``criterion``, ``aux_weights`` and ``class_weights`` [C] are set by the trainer; a
        plain model has cross-entropy and its ``aux_weight``. 0 where every pixel is ignored.

        Raises:
            ConfigError: There is no semantic truth, or ``aux_weights`` are not as many as the
                auxiliary maps.
        """
        _truth(targets)
        losses = {self.criterion.name: self._loss_of(outputs["logits"], targets)}
        auxiliary = [self._loss_of(logits, targets) for logits in outputs.get("aux") or ()]
        if self.training and self.aux_weights is not None:
            losses["aux"] = self._weighted(auxiliary, self.aux_weights)
        elif auxiliary:
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

    def _loss_of(self, logits: Tensor, targets: SemanticTargets) -> Tensor:
        semantic = _truth(targets)
        height, width = semantic.shape[-2:]
        return self.criterion(
            resize(logits, (height, width)),
            semantic,
            class_weights=self.class_weights,
            pixel_weights=getattr(targets, "pixel_weights", None),
        )

    def _weighted(self, losses: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        if len(losses) != len(weights):
            raise ConfigError(
                f"aux_weights: found {len(weights)} numbers, the model has {len(losses)} "
                "auxiliary maps",
                fix="give one number for each, coarsest first, or remove aux_weights",
            )
        return torch.stack([w * one for w, one in zip(weights, losses, strict=True)]).sum()


def _truth(targets: SemanticTargets) -> Tensor:
    if targets.semantic is None:
        raise ConfigError("a semantic model needs targets with a semantic label map; found none")
    return targets.semantic
