"""From a recipe and the classes of a dataset to a network, and its weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from segbench.core.errors import ConfigError, TrainingError
from segbench.core.progress import track
from segbench.core.types import CategoryTable, Task
from segbench.formats.label_maps import atomic_path
from segbench.formats.prepared import PreparedDataset
from segbench.formats.samples import SplitTruth
from segbench.layers.losses.criterion import Criterion
from segbench.models.registry import create_model, model_info
from segbench.training import class_weights
from segbench.training.checkpoint import load_weights_into, refuse_non_finite
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
        model.criterion = Criterion.of(recipe)  # type: ignore[assignment]
        model.aux_weights = recipe.aux_weights  # type: ignore[assignment]
    weights = _class_weights(recipe, dataset)
    if weights is None:
        return
    order = dataset.table.panoptic_order if recipe.task == "panoptic" else range(len(weights))
    model.class_weights = torch.tensor([weights[train_id] for train_id in order])


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


def _class_weights(recipe: Recipe, dataset: PreparedDataset) -> list[float] | None:
    if recipe.class_weights is not None:
        if len(recipe.class_weights) != len(dataset.table):
            raise ConfigError(
                f"class_weights: expected {len(dataset.table)} numbers, one a class of "
                f"'{dataset.name}', found {len(recipe.class_weights)}"
            )
        return list(recipe.class_weights)
    if recipe.class_weight_power is not None:
        return class_weights.power(_pixels(recipe, dataset), recipe.class_weight_power)
    if recipe.class_weighting == "enet":
        return class_weights.enet(_pixels(recipe, dataset))
    if recipe.class_weighting == "median_frequency":
        return class_weights.median_frequency(*_pixels_and_areas(recipe, dataset))
    return None


def _pixels(recipe: Recipe, dataset: PreparedDataset) -> list[int]:
    """Return how many pixels of the training split each class has."""
    histograms = dataset.description.get("class_histogram", {})
    histogram: list[int] = histograms.get(recipe.train_split, {}).get("pixels", [])
    if len(histogram) != len(dataset.table):
        raise ConfigError(
            f"{dataset.description_file} has no class_histogram of split '{recipe.train_split}', "
            "which class_weight_power and class_weighting need",
            fix="prepare the dataset again, or write class_weights into the recipe",
        )
    return histogram


def _pixels_and_areas(recipe: Recipe, dataset: PreparedDataset) -> tuple[list[int], list[int]]:
    """Return pixels of each class, and pixels of all images that show it; reads every map."""
    truth = SplitTruth(dataset, recipe.train_split, task="semantic")
    pixels, areas = np.zeros((2, len(dataset.table)), dtype=np.int64)
    for record in track(truth.records, len(truth.records), "class frequencies"):
        semantic = truth.sample(record).semantic
        if semantic is None:
            raise ConfigError("class_weighting needs a semantic truth", fix="remove it")
        counts = np.bincount(semantic.ravel(), minlength=len(pixels))[: len(pixels)]
        pixels += counts
        areas += np.where(counts > 0, semantic.size, 0)
    return pixels.tolist(), areas.tolist()


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights of a model as safetensors, atomically.

    Raises:
        TrainingError: A number is not finite.
    """
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    refuse_non_finite(weights, "the network that is to be saved", fix="lower base_lr in the recipe")
    content = safetensors.torch.save(_without_sharing(weights), metadata={"format": "pt"})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors weights into a model.

    Raises:
        TrainingError: The file is missing, damaged or of another model or number of classes,
            or holds numbers that are not finite.
    """
    try:
        weights = cast(Mapping[str, Tensor], safetensors.torch.load_file(str(path)))
    except FileNotFoundError as error:
        raise TrainingError(f"{path} does not exist", fix="train the experiment first") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise TrainingError(
            f"{path} is no readable safetensors file: {error}", fix="train the experiment again"
        ) from error
    load_weights_into(model, weights, str(path))
    refuse_non_finite(weights, str(path), fix="train the experiment again")


def _without_sharing(weights: dict[str, Any]) -> dict[str, Any]:
    """Copy tensors that share memory, which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result
