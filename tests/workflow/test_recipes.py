"""Every recipe of the checkout can be run: names, numbers and sizes are checked, nothing trains."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from torch import nn

from segbench.core.types import CategoryTable
from segbench.datasets import dataset_info
from segbench.formats.prepared import PreparedDataset
from segbench.models.registry import create_model, model_info
from segbench.training.build import class_counts, set_loss
from segbench.training.initial_weights import freeze
from segbench.training.optim import build_optimizer
from segbench.training.recipe import Recipe, load_recipe
from segbench.workflow.plan import load_plan

FOLDER = Path(__file__).parents[2] / "workflow" / "experiments"
FILES = sorted(FOLDER.glob("*/*.yaml"))
STARTED = [file for file in FILES if load_recipe(file).base]
"""Recipes that start from another."""
FAMILIES = frozenset(
    {
        "crf_rnn", "deconvnet", "decouplednet", "deeplab", "deeplab_v2", "deeplab_v3", "dilation",
        "encnet", "enet", "erfnet", "fast_scnn", "fc_densenet", "fcn", "hrnet", "icnet", "ocrnet",
        "pspnet", "segnet", "semantic_fpn", "torchvision_references", "unet",
    }
)  # fmt: skip
"""Source files of semantic architectures whose paper's or library's recipe is here."""
SIZES = re.compile(r"(_(t|s|b|l|xl|h|b\d)|(?<=31)[bl])$")
"""Ending of the id of a network that comes in sizes of one code."""
NOT_ON_META = frozenset({"classical", "patch_classifier"})
"""Baselines, whose ``forward`` reads pixels."""


@pytest.fixture(params=FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return recipe_of(request.param)


@cache
def recipe_of(file: Path) -> Recipe:
    return load_recipe(file)


def table_of(recipe: Recipe) -> CategoryTable:
    return CategoryTable(dataset_info(recipe.dataset).categories)


def on_meta(recipe: Recipe) -> nn.Module:
    """Build the network of a recipe without memory; its options are those of a real one."""
    options = dict(recipe.model_options)
    if recipe.backbone_weights != "none":
        options["backbone_weights"] = "none"
    info = model_info(recipe.model)
    counts = class_counts(recipe.task, table_of(recipe), builder=info.task)
    with torch.device("meta"):
        model: nn.Module = create_model(recipe.model, *counts, **options)
    return model


def test_one_plan_holds_every_recipe(tmp_path: Path) -> None:
    runs = []
    for folder in sorted({file.parent for file in FILES}):
        held_out = [s for s in dataset_info(folder.name).splits if not s.startswith("train")]
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        runs.append({"dataset": folder.name, "experiments": names, "split": held_out[0]})
    config = {"experiments_folder": str(FOLDER), "runs": runs}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(load_plan(tmp_path / "config.yaml").cells) == len(FILES)


def test_every_family_has_the_recipe_of_its_paper() -> None:
    recipes = [recipe_of(file) for file in FILES]
    told = {model_info(r.model).family for r in recipes if not r.paper_recipe.startswith("none")}
    assert told >= FAMILIES


def test_recipe_says_what_it_has_from_whom(recipe: Recipe) -> None:
    assert recipe.paper_recipe
    if not recipe.paper_recipe.startswith("none"):
        assert recipe.inferred
        assert all(reason.strip() for reason in recipe.inferred)


def test_numbers_of_a_recipe_fit_its_dataset_and_backbone(recipe: Recipe) -> None:
    classes = len(table_of(recipe))
    assert recipe.class_weights is None or len(recipe.class_weights) == classes
    assert recipe.batch_size % max(recipe.gpus, 1) == 0
    for step in (recipe.step_interval or 1, *recipe.step_at):
        assert step < recipe.iterations
    assert list(recipe.step_at) == sorted(recipe.step_at)


def test_network_takes_the_loss_and_the_crop_of_its_recipe(recipe: Recipe) -> None:
    model = on_meta(recipe).train()
    heeds_the_loss(model, recipe)
    freeze(model, recipe.frozen)
    assert build_optimizer(model, recipe).param_groups
    info = model_info(recipe.model)
    if info.task != "semantic" or info.family in NOT_ON_META:
        return  # detectors read targets
    size = SIZES.search(recipe.model)
    if size and recipe is not first_of_its_sizes(recipe.model.removesuffix(size[0])):
        return  # its code is that of another size
    height, width = recipe.crop_size or recipe.profile_size
    outputs: dict[str, Any] = model(torch.empty(2, 3, height, width, device="meta"))
    if "logits" in outputs:
        assert outputs["logits"].shape == (2, len(table_of(recipe)), height, width)
    else:
        assert outputs["presence"].shape[0] == 2
    if recipe.aux_weights is not None:
        assert len(outputs["aux"]) == len(recipe.aux_weights)


@cache
def first_of_its_sizes(name: str) -> Recipe:
    """Return the recipe, of those of all sizes and data sets, that stands for the others."""
    return next(r for r in map(recipe_of, FILES) if SIZES.sub("", r.model) == name)


@pytest.mark.parametrize("file", STARTED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_most_of_what_a_recipe_starts_from_fits(file: Path) -> None:
    recipe = recipe_of(file)
    assert recipe.base is not None
    dataset, experiment = recipe.base
    base = on_meta(recipe_of(FOLDER / dataset / f"{experiment}.yaml"))
    model = on_meta(recipe)
    part = model.get_submodule(recipe.init_into)
    shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
    stored = {name: tensor.shape for name, tensor in base.state_dict().items()}
    fitting = [name for name, shape in stored.items() if shapes.get(name) == shape]
    assert len(fitting) > 0.8 * len(stored)


def heeds_the_loss(model: nn.Module, recipe: Recipe) -> None:
    """Set the loss of a recipe; weights by frequency, which need data, become ones."""
    keys = {"class_weights": None, "class_weight_power": None, "class_weighting": "none"}
    weighted = any(getattr(recipe, key) != unset for key, unset in keys.items())
    ones = (1.0,) * len(table_of(recipe)) if weighted else None
    dataset = SimpleNamespace(name=recipe.dataset, table=table_of(recipe))
    plain = recipe.model_copy(update={**keys, "class_weights": ones})
    set_loss(model, plain, cast(PreparedDataset, dataset))
    assert (getattr(model, "class_weights", None) is not None) == weighted
