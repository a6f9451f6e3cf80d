"""Two networks of one convolution: one sleeps in training, one fails and says on which GPU."""

from __future__ import annotations

import os
import time
from typing import Any

from torch import Tensor, nn

from segbench.models._semantic import SemanticModel
from segbench.registry import register_model


class Patient(SemanticModel):
    """Sleeps PATIENT_SECONDS (default 0) in every training step."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.head = nn.Conv2d(3, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Any]:
        if self.training:
            time.sleep(float(os.environ.get("PATIENT_SECONDS", "0")))
        return {"logits": self.head(images)}


class Broken(Patient):
    """Fails in every forward pass."""

    def forward(self, images: Tensor) -> dict[str, Any]:
        raise RuntimeError(f"broken on purpose, GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")


@register_model("patient", task="semantic", paper="none", year=2026, display_name="Patient")
def patient(num_classes: int) -> nn.Module:
    """Build the network that takes its time."""
    return Patient(num_classes)


@register_model("broken", task="semantic", paper="none", year=2026, display_name="Broken")
def broken(num_classes: int) -> nn.Module:
    """Build the network that fails."""
    return Broken(num_classes)
