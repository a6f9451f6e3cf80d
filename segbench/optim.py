"""Optimiser and learning-rate schedule of a recipe.

The learning rate is a pure function of the iteration, so resuming needs no scheduler state.
Weight decay applies to every parameter, normalisation included, and biases unless the recipe
leaves them out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from segbench.config import Recipe

RMSPROP_SMOOTHING = 0.9
"""Decay of RMSprop's mean of squares, as Theano's libraries had it; PyTorch's default is 0.99."""


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the trainable parameters of a model.

    Parameters that ``model.backbone_parameters()`` yields learn at ``backbone_lr_factor``
    times the rate of the rest, and biases at ``bias_lr_factor`` times that of weights. Adam's
    weight decay is added to the gradient, AdamW's is not; RMSprop has no momentum.
    """
    groups, rate = _parameter_groups(model, recipe), recipe.base_lr
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=True)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, alpha=RMSPROP_SMOOTHING)
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, fused=True)


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return one group for each learning rate and weight decay."""
    listing = getattr(model, "backbone_parameters", None)
    backbone = {id(p) for p in listing()} if callable(listing) else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.backbone_lr_factor if id(parameter) in backbone else 1.0
        decay = recipe.weight_decay
        if name.endswith("bias"):
            rate *= recipe.bias_lr_factor
            decay *= recipe.bias_weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": held, "lr_factor": rate, "weight_decay": decay}
        for (rate, decay), held in groups.items()
    ]


def learning_rate(recipe: Recipe, iteration: int) -> float:
    """Return the learning rate of a step, counted from 0.

    Warm-up rises linearly from base_lr / (w + 1) at step 0 to base_lr at step w =
    ``warmup_iterations``. From there, with t from 0 to 1 over the remaining steps, poly is
    base_lr (1 - t) ** poly_power, cosine base_lr (1 + cos(pi t)) / 2, constant base_lr, and
    step base_lr times step_factor after each ``step_interval`` of them.
    """
    warmup = recipe.warmup_iterations
    if iteration < warmup:
        return recipe.base_lr * (iteration + 1) / (warmup + 1)
    progress = (iteration - warmup) / (recipe.iterations - warmup)
    if recipe.schedule == "poly":
        return float(recipe.base_lr * (1 - progress) ** recipe.poly_power)
    if recipe.schedule == "cosine":
        return recipe.base_lr * (1 + math.cos(math.pi * progress)) / 2
    if recipe.schedule == "step" and recipe.step_interval is not None:
        done = (iteration - warmup) // recipe.step_interval
        return float(recipe.base_lr * recipe.step_factor**done)
    return recipe.base_lr


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every parameter group to ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
