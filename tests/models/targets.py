"""Ground truth of a batch, as networks see it in their loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Targets:
    """See ``segbench.training.data.Targets``."""

    instances: list[dict[str, torch.Tensor]] | None
    semantic: torch.Tensor | None
    sizes: list[tuple[int, int]]
