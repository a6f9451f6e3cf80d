"""What a batch must have for a network to learn from it, known before anything starts."""

from __future__ import annotations

from segbench.core.errors import ConfigError
from segbench.models.registry import ModelInfo
from segbench.training.recipe import Recipe


def check_batch(recipe: Recipe, model: ModelInfo, source: str) -> None:
    """Check the batch size of a recipe against its model.

    Several GPUs share the statistics of batch normalisation, so the whole batch counts. A
    recipe with ``frozen`` parts may rest the pooled branch: its first step decides.

    Args:
        recipe: The experiment.
        model: The model that it names.
        source: The file of the recipe, for messages.

    Raises:
        ConfigError: The batch is too small.
    """
    size = recipe.batch_size
    if size < model.min_batch and not recipe.frozen:
        raise ConfigError(
            f"{source}: batch_size: {size} cannot train {model.id}: it normalises a globally "
            "pooled map over the batch, which has one value for each image",
            fix=f"use a batch_size of at least {model.min_batch}",
        )
