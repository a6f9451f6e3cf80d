"""Which networks cannot learn from one image at a time is found here and said by the plan."""

from __future__ import annotations

import pytest
import torch

from segbench.core.checked_yaml import parse
from segbench.core.errors import ConfigError, TrainingError
from segbench.models.registry import create_model, model_infos
from segbench.training.device import explain_one_value
from segbench.training.recipe import Recipe
from segbench.workflow.batch_rules import check_batch

CLASSES = {"semantic": (5,), "instance": (4,), "panoptic": (3, 4)}
FAMILIES = {info.family: info for info in model_infos().values()}
SMALL = {info.id: info for info in model_infos().values() if info.size == "tiny"}
MEASURED = {**{info.id: info for info in FAMILIES.values()}, **SMALL}
"""Every tiny network and one of each file; a network of a file differs in its backbone."""
SIDE = 256


def recipe(**changes):
    values = {"model": "m", "dataset": "d", "task": "semantic", "iterations": 3, "batch_size": 1,
              "base_lr": 0.1, "gpus": 0}  # fmt: skip
    return parse(Recipe, {**values, **changes}, "recipe")


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_the_smallest_batch_is_the_one_that_is_stated(name):
    """On the meta device: shapes alone decide, no number is computed."""
    info = MEASURED[name]
    if not info.deep or info.family == "patch_classifier":
        pytest.skip("no network on the meta device")
    with torch.device("meta"):
        model = create_model(name, *CLASSES[info.task]).train()
        for batch in (1, 2):
            try:
                model(torch.empty(batch, 3, SIDE, SIDE))
                learns = True
            except ValueError as error:
                assert "more than 1 value per channel" in str(error)
                learns = False
            assert learns == (batch >= info.min_batch)


def test_a_file_states_it_for_all_of_its_networks():
    """The pooled branch is in the head, which the networks of a file share."""
    pooled = {info.family for info in model_infos().values() if info.min_batch > 1}
    exceptions = {"torchvision_references", "icnet"}
    for info in model_infos().values():
        if info.family in pooled - exceptions:
            assert info.min_batch == 2, info.id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "batch_size: 1 cannot train pspnet_tiny"),
        ({"frozen": ["backbone"]}, None),
        ({"batch_size": 2}, None),
        ({"batch_size": 2, "gpus": 2}, None),
    ],
)
def test_the_plan_refuses_it(changes, message):
    info = model_infos()["pspnet_tiny"]
    if message is None:
        check_batch(recipe(**changes), info, "r.yaml")
        return
    with pytest.raises(ConfigError, match=message) as error:
        check_batch(recipe(**changes), info, "r.yaml")
    assert "r.yaml" in str(error.value) and "batch_size" in error.value.fix


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match="batch_size: 3 cannot be shared by gpus: 2"):
        recipe(batch_size=3, gpus=2)


def test_what_the_plan_cannot_know_is_explained_at_the_first_step():
    """A crop as small as the stride leaves one value too."""
    layer = torch.nn.BatchNorm2d(3)
    one_pixel = pytest.raises(TrainingError, match="maps of one pixel")
    with one_pixel as error, explain_one_value(recipe()):
        layer(torch.zeros(1, 3, 1, 1))
    assert "batch_size of at least 2" in error.value.fix
    with pytest.raises(ValueError, match="other"), explain_one_value(recipe()):
        raise ValueError("other")
