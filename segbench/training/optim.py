"""Optimiser and learning-rate schedule of a recipe.

The learning rate is a pure function of the iteration, so resuming needs no scheduler state.
Weight decay applies to every parameter, normalisation and biases included, unless the recipe
leaves them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from segbench.core.errors import ConfigError
from segbench.training.recipe import Recipe

POSITION_TABLES = frozenset({"relative_position_bias_table"})
"""Names of parameters that are looked up by relative position."""
RMSPROP_SMOOTHING = 0.9
"""Decay of RMSprop's mean of squares, as Theano's libraries had it; PyTorch's default is 0.99."""


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the trainable parameters of a model.

    Parameters that ``model.backbone_parameters()`` yields learn at ``backbone_lr_factor``
    times the rate of the rest, and biases at ``bias_lr_factor`` times that of weights. With a
    ``layer_decay``, the last of the n groups of parameters in ``model.backbone_layers()`` learns
    at the rate of the backbone, the first at ``layer_decay ** (n - 1)`` times it. Adam's weight
    decay is added to the gradient, AdamW's is not; RMSprop has no momentum.

    Raises:
        ConfigError: The model does not tell the layers of its backbone.
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
    layers, tables = _layer_factors(model, recipe), _undecayed(model, recipe)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.backbone_lr_factor if id(parameter) in backbone else 1.0
        rate *= layers.get(id(parameter), 1.0)
        decay = 0.0 if id(parameter) in tables else recipe.weight_decay
        if name.endswith("bias"):
            rate *= recipe.bias_lr_factor
            decay *= recipe.bias_weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": held, "lr_factor": rate, "weight_decay": decay}
        for (rate, decay), held in groups.items()
    ]


def _layer_factors(model: nn.Module, recipe: Recipe) -> Mapping[int, float]:
    """Return the factor of ``layer_decay`` on the rate of each parameter's id."""
    if recipe.layer_decay == 1:
        return {}
    listing = getattr(model, "backbone_layers", None)
    layers = listing() if callable(listing) else []
    if not layers:
        raise ConfigError(
            f"layer_decay: model '{recipe.model}' does not tell the layers of its backbone",
            fix="remove layer_decay, or give the rate by backbone_lr_factor",
        )
    return {
        id(parameter): recipe.layer_decay**depth
        for depth, layer in enumerate(reversed(layers))
        for parameter in layer
    }


def _undecayed(model: nn.Module, recipe: Recipe) -> set[int]:
    """Return ids of what ``norm_weight_decay: false`` spares: norms, factors, tables."""
    if recipe.norm_weight_decay:
        return set()
    found: set[int] = set()
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        weight = own.get("weight")
        if isinstance(module, nn.Embedding) or (weight is not None and weight.dim() == 1):
            found |= {id(parameter) for parameter in own.values()}
        found |= {
            id(parameter)
            for name, parameter in own.items()
            if name in POSITION_TABLES or (parameter.dim() <= 1 and not name.endswith("bias"))
        }
    return found


def learning_rate(recipe: Recipe, iteration: int) -> float:
    """Return the learning rate of a step, counted from 0.

    Warm-up rises linearly from base_lr / (w + 1), or ``warmup_start`` base_lr, at step 0 to
    base_lr at step w = ``warmup_iterations``. From there, with t from 0 to 1 over the remaining
    steps, poly falls with (1 - t) ** poly_power to ``final_lr``, cosine is base_lr
    (1 + cos(pi t)) / 2, constant base_lr, and step base_lr times step_factor after each
    ``step_interval`` of them or at each step in ``step_at``, counted from 0.
    """
    warmup = recipe.warmup_iterations
    if iteration < warmup:
        if recipe.warmup_start is None:
            return recipe.base_lr * (iteration + 1) / (warmup + 1)
        done = iteration / warmup
        return recipe.base_lr * (recipe.warmup_start * (1 - done) + done)
    progress = (iteration - warmup) / (recipe.iterations - warmup)
    if recipe.schedule == "poly":
        span = recipe.base_lr - recipe.final_lr
        return float(recipe.final_lr + span * (1 - progress) ** recipe.poly_power)
    if recipe.schedule == "cosine":
        return recipe.base_lr * (1 + math.cos(math.pi * progress)) / 2
    if recipe.schedule == "step" and recipe.step_interval is not None:
        steps = (iteration - warmup) // recipe.step_interval
        return float(recipe.base_lr * recipe.step_factor**steps)
    if recipe.step_at:
        steps = sum(iteration >= place for place in recipe.step_at)
        return float(recipe.base_lr * recipe.step_factor**steps)
    return recipe.base_lr


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every parameter group to ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
