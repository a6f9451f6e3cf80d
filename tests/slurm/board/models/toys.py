"""Two networks of one convolution: one learns, one fails and says on which GPU."""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor, nn

from segbench.models import SemanticModel, register_model

TASK = "semantic"
PAPER = "none"
YEAR = 2026


class Patient(SemanticModel):
    """The smallest network that can be trained; its test holds it in the middle."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.head = nn.Conv2d(3, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Any]:
        return {"logits": self.head(images)}


class Broken(Patient):
    """Fails in every forward pass."""

    def forward(self, images: Tensor) -> dict[str, Any]:
        raise RuntimeError(f"broken on purpose, GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")


@register_model("patient", display_name="Patient")
def patient(num_classes: int) -> nn.Module:
    """Build the network that learns."""
    return Patient(num_classes)


@register_model("broken", display_name="Broken")
def broken(num_classes: int) -> nn.Module:
    """Build the network that fails."""
    return Broken(num_classes)
