"""Mistakes in a configuration that need no data to be seen, found before anything runs.

Each is one line that names file, line and key; all of a file are named at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbench.core.checked_yaml import key_line
from segbench.core.errors import ConfigError
from segbench.core.types import DatasetInfo
from segbench.datasets.options import check_options
from segbench.models.options import option_mistakes
from segbench.models.registry import ModelInfo
from segbench.training.recipe import Recipe

Place = tuple[str | int, ...]


@dataclass
class Mistakes:
    """Faults of a configuration, gathered so that all are said at once."""

    errors: list[ConfigError] = field(default_factory=list)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep a ``ConfigError`` of the block for later."""
        try:
            yield
        except ConfigError as error:
            self.errors.append(error)

    def refuse(self) -> None:
        """Raise what was kept, each mistake once, as one error."""
        if self.errors:
            lines = dict.fromkeys(line for error in self.errors for line in error.what.splitlines())
            fixes = dict.fromkeys(error.fix for error in self.errors if error.fix)
            raise ConfigError("\n".join(lines), fix="\n  -> ".join(fixes))


def check_recipe(file: Path, recipe: Recipe, model: ModelInfo, dataset: DatasetInfo) -> None:
    """Hold a recipe against its model and dataset.

    Raises:
        ConfigError: Naming every option that the model does not take, weights that are not
            there, and numbers that do not fit the classes.
    """
    _refuse(file, [*_options(recipe, model), *_weights(recipe), *_classes(recipe, dataset)])


def _options(recipe: Recipe, model: ModelInfo) -> Iterator[tuple[Place, str]]:
    for name, problem in option_mistakes(model, recipe.model_options):
        yield ("model_options", name), f"model_options: {problem}"
    if recipe.backbone_weights != "none":
        given = {"backbone_weights": recipe.backbone_weights}
        for name, _ in option_mistakes(model, given):
            yield (name,), f"{name}: model '{model.id}' has no backbone that weights could fill"


def _weights(recipe: Recipe) -> Iterator[tuple[Place, str]]:
    weights = recipe.backbone_weights
    if weights not in ("none", "imagenet") and not Path(weights).is_file():
        yield (
            ("backbone_weights",),
            f"backbone_weights: expected none, imagenet or a file of weights; {weights} does not "
            "exist",
        )


def _classes(recipe: Recipe, dataset: DatasetInfo) -> Iterator[tuple[Place, str]]:
    weights, classes = recipe.class_weights, len(dataset.categories)
    if weights is not None and len(weights) != classes:
        yield (
            ("class_weights",),
            f"class_weights: expected {classes} numbers, one a class of '{dataset.name}', "
            f"found {len(weights)}",
        )
    if recipe.border_weight and recipe.border_background >= classes:
        yield (
            ("border_background",),
            f"border_background: expected a train id below {classes}, "
            f"found {recipe.border_background}",
        )


def check_dataset_options(
    file: Path, dataset: DatasetInfo, options: Mapping[str, Any], splits: Mapping[str, str]
) -> None:
    """Hold the options of a dataset against its own rules.

    Args:
        file: The configuration.
        dataset: The dataset.
        options: Its options as the configuration states them.
        splits: Splits that runs need, each with who needs it.

    Raises:
        ConfigError: Naming every mistake, or a split that would have no images.
    """
    place: Place = ("datasets", dataset.name, "options")
    try:
        resolved = check_options(dataset, options)
    except ConfigError as error:
        mistakes = [((*place, _key(what, options)), what) for what in error.what.splitlines()]
        _refuse(file, mistakes, fix=error.fix)
        return
    empty = [
        ((*place, split), f"dataset '{dataset.name}', option '{split}': {who} needs images")
        for split, who in splits.items()
        if resolved.get(split) == 0
    ]
    _refuse(file, empty)


def _key(what: str, options: Mapping[str, Any]) -> str:
    return next((key for key in options if f"'{key}'" in what), "")


def _refuse(file: Path, mistakes: list[tuple[Place, str]], *, fix: str = "") -> None:
    if mistakes:
        lines = [f"{file}:{key_line(file, *place)}: {what}" for place, what in mistakes]
        raise ConfigError("\n".join(lines), fix=fix)
