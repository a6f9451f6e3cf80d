"""The recipes of a folder: their families, the keys in which they differ, and their ablations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError, did_you_mean
from segbench.models.registry import model_info
from segbench.training.recipe import WITHOUT_EFFECT, Recipe, load_recipe

FOLDER = Path("workflow/experiments")
"""Where recipes lie in a checkout: ``<dataset>/<experiment>.yaml``."""
MOST_KEYS = 3
"""An ablation names at most so many keys."""
_ABLATION = re.compile(r"# Ablation of (?P<base>\S+): (?P<keys>\S+(?:, \S+)*)\n")


@dataclass(frozen=True)
class Ablation:
    """What the first line of a recipe's comment states.

    ``base`` is an experiment of the same dataset, ``keys`` the keys that differ from it; those
    inside ``model_options`` are written with a dot.
    """

    base: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class RecipeFile:
    """One recipe with its place, its family and, if it is an ablation, its base."""

    path: Path
    recipe: Recipe
    family: str
    """Name of the source file of its architecture, without ``.py``."""
    ablation: Ablation | None

    @property
    def name(self) -> str:
        """``<dataset>/<experiment>``."""
        return f"{self.path.parent.name}/{self.path.stem}"

    def as_dict(self) -> dict[str, Any]:
        """Return what ``segbench recipes --json`` says of a recipe: JSON values alone."""
        recipe, ablation = self.recipe, self.ablation
        return {
            "recipe": self.name,
            "dataset": recipe.dataset,
            "family": self.family,
            "model": recipe.model,
            "task": recipe.task,
            "iterations": recipe.iterations,
            "batch_size": recipe.batch_size,
            "optimizer": recipe.optimizer,
            "base_lr": recipe.base_lr,
            "schedule": recipe.schedule,
            "paper_recipe": recipe.paper_recipe,
            "ablation_of": ablation and ablation.base,
            "ablation_keys": list(ablation.keys) if ablation else [],
        }


def load_recipe_file(path: Path) -> RecipeFile:
    """Read one recipe.

    Raises:
        ConfigError: The file is no recipe, its model is not known, or its first line begins as
            that of an ablation and has not its form.
    """
    recipe = load_recipe(path)
    try:
        family = model_info(recipe.model).family
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", fix=error.fix) from None
    return RecipeFile(path, recipe, family, _ablation(path))


def load_recipes(
    folder: Path = FOLDER, *, family: str | None = None, dataset: str | None = None
) -> tuple[RecipeFile, ...]:
    """Read the recipes of a folder, all or those of one family or dataset, sorted by name.

    Args:
        folder: Holds ``<dataset>/<experiment>.yaml``.
        family: Name of a file in ``segbench/models``, without ``.py``.
        dataset: Name of a folder of recipes.

    Raises:
        ConfigError: No recipe is there, a recipe is wrong, or the name fits none.
    """
    files = sorted(file for file in folder.glob("*/*.yaml") if not file.name.startswith("."))
    if not files:
        raise ConfigError(
            f"{folder} holds no recipe <dataset>/<experiment>.yaml",
            fix="run this in the top folder of the checkout, or name a folder with --folder",
        )
    _known("dataset", dataset, {file.parent.name for file in files})
    found = [load_recipe_file(file) for file in files if dataset in (None, file.parent.name)]
    _known("family", family, {each.family for each in found})
    return tuple(each for each in found if family in (None, each.family))


def differences(recipes: Sequence[RecipeFile]) -> dict[str, dict[str, Any]]:
    """Return the keys in which recipes differ, each with its value in every recipe.

    Defaults count as values. Keys that change no number (``WITHOUT_EFFECT``) are left out.

    Returns:
        Key -> recipe -> value, in the order of a recipe's fields. Options of a model are keys
        ``model_options.<option>``; an option that a recipe does not give is None.
    """
    values = {each.name: settings(each.recipe) for each in recipes}
    keys = dict.fromkeys(key for each in values.values() for key in each)
    order = [*Recipe.model_fields]
    found = {}
    for key in sorted(keys, key=lambda key: order.index(key.partition(".")[0])):
        row = {name: each.get(key) for name, each in values.items()}
        if len({repr(value) for value in row.values()}) > 1:
            found[key] = row
    return found


def settings(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that can change a number; options are ``model_options.<option>``.

    Returns:
        JSON values, defaults included.
    """
    values = recipe.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    options = values.pop("model_options")
    return values | {f"model_options.{key}": value for key, value in options.items()}


def ablation_fault(recipe: RecipeFile, others: Mapping[str, RecipeFile]) -> str:
    """Say what is wrong about the base and the keys that a recipe's first line names.

    Args:
        recipe: The recipe to check.
        others: Recipes by ``<dataset>/<experiment>``, the base among them.

    Returns:
        A sentence that names the file; empty for a right ablation and for any other recipe.
    """
    ablation = recipe.ablation
    if ablation is None:
        return ""
    base = others.get(f"{recipe.path.parent.name}/{ablation.base}")
    if base is None or base is recipe:
        return f"{recipe.path}: its base '{ablation.base}' is no other recipe of its dataset"
    if len(ablation.keys) > MOST_KEYS:
        return f"{recipe.path}: an ablation names at most {MOST_KEYS} keys"
    differ = list(differences([base, recipe]))
    if sorted(differ) != sorted(ablation.keys):
        return (
            f"{recipe.path}: its first line names {', '.join(ablation.keys)}; "
            f"it differs from {ablation.base} in {', '.join(differ) or 'nothing'}"
        )
    return ""


def _ablation(path: Path) -> Ablation | None:
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    if not line.lower().startswith("# ablation"):
        return None
    found = _ABLATION.fullmatch(line)
    if found is None:
        raise ConfigError(
            f"{path}:1: expected '# Ablation of <base>: <key>', found '{line.strip()}'",
            fix="name the recipe that it repeats and the key in which it differs",
        )
    return Ablation(found["base"], tuple(found["keys"].split(", ")))


def _known(kind: str, name: str | None, known: Iterable[str]) -> None:
    names = sorted(known)
    if name is not None and name not in names:
        raise ConfigError(
            f"no recipe of the {kind} '{name}'.{did_you_mean(name, names)}",
            fix=f"there are recipes of {', '.join(names)}",
        )
