"""A mistake in a configuration names file, line, key and the nearest right name."""

from pathlib import Path

import pytest

from segbench.core.errors import ConfigError
from segbench.training.recipe import Recipe, inference_digest, load_recipe, recipe_digest
from segbench.workflow.config import load_config

RECIPE = """\
model: fcn_tiny
dataset: digit_scenes
task: semantic
iterations: 100
warmup_iterations: 10
batch_size: 8
base_lr: 0.003
"""
CONFIG = """\
datasets:
  digit_scenes:
    options: {train: 8}
runs:
  - dataset: digit_scenes
    experiments: [fcn_tiny]
    seeds: [0, 1]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


def test_good_files_load(tmp_path):
    assert load_recipe(write(tmp_path, RECIPE)).iterations == 100
    assert [seed for _, _, seed in load_config(write(tmp_path, CONFIG)).cells()] == [0, 1]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (RECIPE + "batchsize: 4\n", 8, ["unknown key 'batchsize'", "Did you mean 'batch_size'?"]),
        (RECIPE.replace("100", "many"), 4, ["iterations", "found 'many'"]),
        (RECIPE.replace("semantic", "semantics"), 3, ["task", "'semantic'"]),
        (RECIPE.replace("100", "-1"), 4, ["iterations", "greater than 0"]),
        (RECIPE.replace("base_lr: 0.003\n", ""), 1, ["the key 'base_lr' is missing"]),
        (RECIPE + "inference: slide\n", 8, ["slide needs a window"]),
        (RECIPE.replace("10\n", "100\n"), 5, ["warmup_iterations must be smaller"]),
    ],
)
@pytest.mark.fault(24)
def test_recipe_mistakes(tmp_path, text, line, words):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert f"{path}:{line}:" in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("seeds:", "sedes:", 7, ["runs.0.sedes", "Did you mean 'seeds'?"]),
        ("options:", "option:", 3, ["datasets.digit_scenes.option", "Did you mean 'options'?"]),
        ("[0, 1]", "[0, -1]", 7, ["runs.0.seeds.1"]),
        ("[fcn_tiny]", "['a b']", 6, ["runs.0.experiments.0"]),
        ("runs:", "run:", 4, ["unknown key 'run'", "Did you mean 'runs'?"]),
    ],
)
@pytest.mark.fault(24)
def test_config_mistakes(tmp_path, old, new, line, words):
    path = write(tmp_path, CONFIG.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}:{line}:" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.fault(24)
def test_every_mistake_is_listed(tmp_path):
    path = write(tmp_path, RECIPE.replace("batch_size: 8", "batch_size: 0") + "foo: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [1\n", "\tx: 1\n", "just text\n"])
def test_not_a_mapping(tmp_path, text):
    with pytest.raises(ConfigError, match=r"file\.yaml"):
        load_recipe(write(tmp_path, text))


@pytest.mark.fault(24)
def test_key_given_twice(tmp_path):
    with pytest.raises(ConfigError, match="'model' is given twice"):
        load_recipe(write(tmp_path, RECIPE + "model: unet\n"))


def test_missing_file_suggests(tmp_path):
    write(tmp_path, RECIPE)
    with pytest.raises(ConfigError, match="Did you mean 'file'"):
        load_recipe(tmp_path / "fiel.yaml")


def recipe(**changes) -> Recipe:
    values = {
        "model": "m", "dataset": "d", "task": "panoptic",
        "iterations": 10, "batch_size": 2, "base_lr": 0.1,
    }  # fmt: skip
    return Recipe(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "trains_again", "predicts_again"),
    [
        ({"base_lr": 0.2}, True, True),
        ({"model_options": {"width": 3}}, True, True),
        ({"panoptic_threshold": 0.3}, False, True),
        ({"workers": 4}, False, False),
        ({"paper_recipe": "Table 2"}, False, False),
    ],
)
def test_digests(changes, trains_again, predicts_again):
    before, after = recipe(), recipe(**changes)
    assert (recipe_digest(before) != recipe_digest(after)) == trains_again
    assert (inference_digest(before) != inference_digest(after)) == predicts_again
