"""The recipe files of the checkout: their order, their README, and what ablations state."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic_core import PydanticUndefined

from segbench.core.errors import ConfigError
from segbench.training.recipe import Recipe
from segbench.workflow.recipes import (
    MOST_KEYS,
    RecipeFile,
    ablation_fault,
    differences,
    load_recipe_file,
    load_recipes,
)

FOLDER = Path(__file__).parents[2] / "workflow" / "experiments"
RECIPES = {each.name: each for each in load_recipes(FOLDER)}
ORDER = list(Recipe.model_fields)
BASE = """\
model: fcn_tiny
dataset: digit_scenes
task: semantic
model_options: {width: 8}
iterations: 10
batch_size: 2
base_lr: 0.1
"""


def out_of_order(path: Path) -> str:
    """Name the first key of a recipe that stands in the wrong place, and its right one."""
    keys = list(yaml.safe_load(path.read_text()))
    right = sorted(keys, key=ORDER.index)
    for found, wanted in zip(keys, right, strict=True):
        if found != wanted:
            place = right.index(found)
            after = f"after {right[place - 1]}" if place else "first"
            return f"{path}: '{found}' belongs {after}; here stands '{wanted}'"
    return ""


def default_of(key: str) -> str:
    """Return a key's default as the README writes it."""
    value = Recipe.model_fields[key].default
    if value is PydanticUndefined:
        return "required"
    text = value if isinstance(value, str) and value else json.dumps(value)
    return "-" if value is None else f"`{text}`"


def written(folder: Path, name: str, text: str) -> RecipeFile:
    path = folder / "digit_scenes" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load_recipe_file(path)


def test_every_recipe_keeps_the_order_of_keys() -> None:
    assert [fault for each in RECIPES.values() if (fault := out_of_order(each.path))] == []


def test_a_key_out_of_order_is_named_with_its_right_place(tmp_path: Path) -> None:
    file = tmp_path / "late.yaml"
    file.write_text(BASE.replace("task: semantic\n", "") + "task: semantic\n")
    assert out_of_order(file) == (f"{file}: 'model_options' belongs after task; here stands 'task'")


def test_readme_has_every_key_and_default_in_the_same_order() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", text, re.MULTILINE)
    assert [row[:2] for row in rows] == [(key, default_of(key)) for key in ORDER]


def test_every_ablation_states_its_base_and_its_keys() -> None:
    stated = [each for each in RECIPES.values() if each.ablation]
    assert len(stated) >= 7
    assert [fault for each in stated if (fault := ablation_fault(each, RECIPES))] == []


def test_near_copies_of_one_model_say_which_is_the_base() -> None:
    """Two recipes of one model and task that differ in up to three keys: one names the other, or
    both name one base, or one starts from the weights of the other, as a second stage does."""
    silent = []
    for one, other in itertools.combinations(RECIPES.values(), 2):
        first, second = one.recipe, other.recipe
        same = ("dataset", "model", "task")
        if any(getattr(first, key) != getattr(second, key) for key in same):
            continue
        bases = {each.ablation.base if each.ablation else each.path.stem for each in (one, other)}
        stages = {one.path.stem, other.path.stem} & {first.init_from, second.init_from}
        if len(bases) > 1 and not stages and len(differences([one, other])) <= MOST_KEYS:
            silent.append((one.name, other.name, list(differences([one, other]))))
    assert silent == []


WRONG = [
    ("# Ablation of base: base_lr\n", "in model_options.width"),
    ("# Ablation of base: model_options.width, base_lr\n", "names model_options.width, base_lr"),
    ("# Ablation of nothing: model_options.width\n", "'nothing' is no other recipe"),
    ("# Ablation of digit: model_options.width\n", "'digit' is no other recipe"),
    ("# Ablation of base: a, b, c, d\n", "at most 3 keys"),
]


@pytest.mark.parametrize(("header", "words"), WRONG)
def test_an_untrue_header_is_refused(tmp_path: Path, header: str, words: str) -> None:
    base = written(tmp_path, "base", BASE)
    text = header + BASE.replace("width: 8", "width: 4")
    digit = written(tmp_path, "digit", text)
    fault = ablation_fault(digit, {each.name: each for each in (base, digit)})
    assert words in fault
    assert str(digit.path) in fault


def test_a_true_header_is_no_fault(tmp_path: Path) -> None:
    base = written(tmp_path, "base", BASE)
    text = BASE.replace("width: 8", "width: 4") + "checkpoint_interval: 5\n"
    narrow = written(tmp_path, "narrow", f"# Ablation of base: model_options.width\n{text}")
    assert ablation_fault(narrow, {each.name: each for each in (base, narrow)}) == ""
    assert differences([base, narrow]) == {
        "model_options.width": {"digit_scenes/base": 8, "digit_scenes/narrow": 4}
    }


@pytest.mark.parametrize("line", ["# Ablation: no width", "# ablation of base, width"])
def test_a_header_of_another_form_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="Ablation of <base>: <key>"):
        written(tmp_path, "narrow", f"{line}\n{BASE}")


def test_a_written_default_is_no_difference(tmp_path: Path) -> None:
    base = written(tmp_path, "base", BASE)
    same = written(tmp_path, "same", BASE + "optimizer: sgd\n")
    assert differences([base, same]) == {}
