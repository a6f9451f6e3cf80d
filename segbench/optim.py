"""Optimiser and learning-rate schedule of a recipe.

The learning rate is a pure function of the iteration, so resuming needs no scheduler state.
Weight decay applies to every parameter, normalisation and bias included.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from segbench.config import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return SGD or AdamW over the trainable parameters of a model.

    Parameters that ``model.backbone_parameters()`` yields learn at ``backbone_lr_factor``
    times the rate of the rest.
    """
    groups = _parameter_groups(model, recipe.backbone_lr_factor)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=recipe.base_lr, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.SGD(
        groups,
        lr=recipe.base_lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def _parameter_groups(model: nn.Module, backbone_lr_factor: float) -> list[dict[str, Any]]:
    listing = getattr(model, "backbone_parameters", None)
    backbone = {id(p) for p in listing()} if callable(listing) else set()
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in backbone], "lr_factor": 1.0},
        {"params": [p for p in trainable if id(p) in backbone], "lr_factor": backbone_lr_factor},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(recipe: Recipe, iteration: int) -> float:
    """Return the learning rate of a step, counted from 0.

    Warm-up rises linearly from base_lr / (w + 1) at step 0 to base_lr at step w =
    ``warmup_iterations``. From there, with t from 0 to 1 over the remaining steps, poly is
    base_lr (1 - t) ** poly_power, cosine base_lr (1 + cos(pi t)) / 2, constant base_lr.
    """
    warmup = recipe.warmup_iterations
    if iteration < warmup:
        return recipe.base_lr * (iteration + 1) / (warmup + 1)
    progress = (iteration - warmup) / (recipe.iterations - warmup)
    if recipe.schedule == "poly":
        return float(recipe.base_lr * (1 - progress) ** recipe.poly_power)
    if recipe.schedule == "cosine":
        return recipe.base_lr * (1 + math.cos(math.pi * progress)) / 2
    return recipe.base_lr


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every parameter group to ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
