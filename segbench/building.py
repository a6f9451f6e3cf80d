"""From a recipe and the classes of a dataset to a network, and its weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from segbench.checkpoint import load_weights_into
from segbench.config import Recipe
from segbench.errors import ConfigError, TrainingError
from segbench.formats import atomic_path
from segbench.prepared import PreparedDataset
from segbench.registry import create_model, model_info
from segbench.types import CategoryTable, Task

PREDICTION_SETTINGS = (
    "score_threshold",
    "panoptic_threshold",
    "panoptic_overlap",
    "panoptic_stuff_area",
)


def class_counts(task: Task, table: CategoryTable) -> tuple[int, ...]:
    """Return what a builder of the task takes: classes, things + 1, or (things, stuff)."""
    things = len(table.thing_train_ids)
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
    if info.task != recipe.task:
        raise ConfigError(
            f"recipe of '{recipe.model}' has task: {recipe.task}, the model's task is {info.task}",
            fix=f"write task: {info.task}",
        )
    options = dict(recipe.model_options)
    if pretrained and recipe.backbone_weights != "none":
        options["backbone_weights"] = recipe.backbone_weights
    model: nn.Module = create_model(recipe.model, *class_counts(info.task, table), **options)
    for name in PREDICTION_SETTINGS:
        if hasattr(model, name):
            setattr(model, name, getattr(recipe, name))
    return model


def set_class_weights(model: nn.Module, recipe: Recipe, dataset: PreparedDataset) -> None:
    """Give the model the class weights of its recipe, in the order of its label maps.

    Raises:
        ConfigError: Their number is wrong, the model has no use for them, or the dataset
            does not say how often its classes occur.
    """
    weights = _class_weights(recipe, dataset)
    if weights is None:
        return
    if not hasattr(model, "class_weights"):
        raise ConfigError(
            f"model '{recipe.model}' takes no class weights",
            fix="remove class_weights and class_weight_power from the recipe",
        )
    order = dataset.table.panoptic_order if recipe.task == "panoptic" else range(len(weights))
    model.class_weights = torch.tensor([weights[train_id] for train_id in order])


def _class_weights(recipe: Recipe, dataset: PreparedDataset) -> list[float] | None:
    classes = len(dataset.table)
    if recipe.class_weights is not None:
        if len(recipe.class_weights) != classes:
            raise ConfigError(
                f"class_weights: expected {classes} numbers, one a class of '{dataset.name}', "
                f"found {len(recipe.class_weights)}"
            )
        return list(recipe.class_weights)
    if recipe.class_weight_power is None:
        return None
    histograms = dataset.description.get("class_histogram", {})
    histogram = histograms.get(recipe.train_split, {}).get("pixels", [])
    if len(histogram) != classes:
        raise ConfigError(
            f"{dataset.description_file} has no class_histogram of split '{recipe.train_split}', "
            "which class_weight_power needs",
            fix="prepare the dataset again, or write class_weights into the recipe",
        )
    most = max(histogram)
    return [(most / n) ** recipe.class_weight_power if n else 1.0 for n in histogram]


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights of a model as safetensors, atomically."""
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    content = safetensors.torch.save(_without_sharing(weights), metadata={"format": "pt"})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors weights into a model.

    Raises:
        TrainingError: The file is missing, damaged or of another model or number of classes.
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


def _without_sharing(weights: dict[str, Any]) -> dict[str, Any]:
    """Copy tensors that share memory, which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result
