"""From a recipe and the classes of a dataset to a network, and its weights on disk."""

from __future__ import annotations

import torch
from torch import nn

from segbench.core.errors import ConfigError
from segbench.core.types import CategoryTable, Task
from segbench.formats.prepared import PreparedDataset
from segbench.layers.losses.criterion import Criterion
from segbench.models.registry import create_model, model_info
from segbench.training.class_weights import class_weights_of
from segbench.training.recipe import Recipe

CLASS_WEIGHT_KEYS = frozenset({"class_weights", "class_weight_power", "class_weighting"})
LOSS_KEYS = CLASS_WEIGHT_KEYS | {
    key for key in Recipe.model_fields if key.startswith(("loss", "aux_", "border_"))
}
"""Recipe fields that only models heed that have no loss of their own."""
PREDICTION_SETTINGS = (
    "score_threshold",
    "panoptic_threshold",
    "panoptic_overlap",
    "panoptic_stuff_area",
)


def class_counts(
    task: Task, table: CategoryTable, *, builder: Task | None = None
) -> tuple[int, ...]:
    """Return what a builder takes: classes, things + 1, or (things, stuff).

    Args:
        task: Task of the recipe.
        table: The classes.
        builder: Task the builder was made for, where it is not that of the recipe: for a
            panoptic one all classes are stuff in a semantic task, and an instance task has none.
    """
    things = len(table.thing_train_ids)
    if builder == "panoptic" and task != "panoptic":
        return (0, len(table)) if task == "semantic" else (things, 0)
    if task == "semantic":
        return (len(table),)
    return (things + 1,) if task == "instance" else (things, len(table) - things)


def build_model(recipe: Recipe, table: CategoryTable, *, pretrained: bool = True) -> nn.Module:
    """Build the network of a recipe for the classes of a dataset.

    Args:
        recipe: Names the model, its options and the settings of its predictions.
        table: The classes.
        pretrained: False skips ``backbone_weights``, as when trained weights follow.

    Raises:
        ConfigError: The model is unknown, of another task, or does not take an option.
    """
    info = model_info(recipe.model)
    if recipe.task not in info.tasks:
        kinds = " or ".join(info.tasks)
        raise ConfigError(
            f"recipe of '{recipe.model}' has task: {recipe.task}, the model's task is {kinds}",
            fix=f"write task: {kinds}",
        )
    options = dict(recipe.model_options)
    if pretrained and recipe.backbone_weights != "none":
        options["backbone_weights"] = recipe.backbone_weights
    counts = class_counts(recipe.task, table, builder=info.task)
    model: nn.Module = create_model(recipe.model, *counts, **options)
    if info.also:
        model.task = recipe.task  # type: ignore[assignment]
    for name in PREDICTION_SETTINGS:
        if hasattr(model, name):
            setattr(model, name, getattr(recipe, name))
    if hasattr(model, "image_std"):  # reads colours besides features
        model.image_mean = recipe.mean  # type: ignore[assignment]
        model.image_std = recipe.std  # type: ignore[assignment]
    return model


def set_loss(model: nn.Module, recipe: Recipe, dataset: PreparedDataset) -> None:
    """Give the model the loss of its recipe, class weights in the order of its label maps.

    Raises:
        ConfigError: The model has no use for what the recipe says, or the class weights do
            not fit the dataset.
    """
    _refuse_unused(model, recipe)
    if not getattr(model, "own_loss", True):
        model.criterion = _criterion(recipe)  # type: ignore[assignment]
        model.aux_weights = recipe.aux_weights  # type: ignore[assignment]
    weights = class_weights_of(recipe, dataset)
    if weights is None:
        return
    order = dataset.table.panoptic_order if recipe.task == "panoptic" else range(len(weights))
    model.class_weights = torch.tensor([weights[train_id] for train_id in order])


def _criterion(recipe: Recipe) -> Criterion:
    """Return the loss that a recipe asks for."""
    return Criterion(
        recipe.loss,
        threshold=recipe.loss_threshold,
        min_kept=recipe.loss_min_kept,
        gamma=recipe.loss_gamma,
        smooth=recipe.loss_smooth,
        cross_entropy=recipe.loss_cross_entropy,
    )


def _refuse_unused(model: nn.Module, recipe: Recipe) -> None:
    """Refuse loss settings of a recipe that its model would not heed."""
    fields = Recipe.model_fields
    given = {key for key in LOSS_KEYS if getattr(recipe, key) != fields[key].default}
    unused: set[str] = set()
    if getattr(model, "own_loss", not hasattr(model, "class_weights")):
        unused |= given & CLASS_WEIGHT_KEYS
    if getattr(model, "own_loss", True):
        unused |= given - CLASS_WEIGHT_KEYS
    if unused:
        raise ConfigError(
            f"model '{recipe.model}' has a loss of its own, without {', '.join(sorted(unused))}",
            fix="remove them from the recipe",
        )
