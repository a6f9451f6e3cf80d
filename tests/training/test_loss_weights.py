"""Weights of classes and of pixels: U-Net's map, SegNet's and ENet's formulas, in a recipe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from segbench.core.checked_yaml import parse
from segbench.core.errors import ConfigError
from segbench.core.types import Category, CategoryTable
from segbench.layers.losses.border import border_weights, cells_of
from segbench.layers.losses.criterion import Criterion
from segbench.layers.losses.pixel import cross_entropy
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import create_model
from segbench.training import class_weights
from segbench.training.build import set_loss
from segbench.training.recipe import Recipe, recipe_digest

LEAST = {
    "model": "fcn_tiny", "dataset": "any", "task": "semantic", "iterations": 1, "batch_size": 1,
    "base_lr": 0.1,
}  # fmt: skip


def recipe(**changes) -> Recipe:
    return parse(Recipe, {**LEAST, **changes}, "recipe")


def test_border_between_two_half_planes_is_the_formula() -> None:
    cells = np.zeros((7, 30), dtype=np.int64)
    cells[:, :10], cells[:, 16:] = 1, 2
    found = border_weights(cells, strength=10, sigma=5)
    # Six pixels lie between; the distances to both sides always sum to seven.
    assert found[:, 10:16] == pytest.approx(np.full((7, 6), 1 + 10 * np.exp(-49 / 50)))
    assert (found[:, :10] == 1).all() and (found[:, 16:] == 1).all()


def test_border_weights_equal_all_distances_written_out() -> None:
    rng = np.random.default_rng(4)
    cells, _ = ndimage.label(ndimage.gaussian_filter(rng.normal(size=(70, 90)), 3) > 0.05)
    assert cells.max() > 8
    distances = [ndimage.distance_transform_edt(cells != n) for n in range(1, cells.max() + 1)]
    nearest = np.sort(distances, axis=0)[:2].sum(axis=0)
    for sigma, strength in ((5.0, 10.0), (2.0, 3.0)):
        expected = 1 + strength * np.exp(-(nearest**2) / (2 * sigma**2)) * (cells == 0)
        found = border_weights(cells.astype(np.int64), strength=strength, sigma=sigma)
        assert np.abs(found - expected).max() < 4e-6 * strength + 1e-6


def test_fewer_than_two_cells_have_no_border() -> None:
    cells = np.zeros((8, 9), dtype=np.int64)
    assert (border_weights(cells) == 1).all()
    cells[2:4, 2:4] = 1
    assert (border_weights(cells) == 1).all()


def test_cells_are_connected_regions_of_one_class() -> None:
    labels = np.array([[1, 1, 0, 1], [0, 0, 1, 255], [2, 2, 2, 0], [1, 0, 0, 2]])
    cells = cells_of(labels)
    assert (cells == 0).sum() == (np.isin(labels, [0, 255])).sum()
    regions = {tuple(np.argwhere(cells == n).ravel()) for n in range(1, cells.max() + 1)}
    assert len(regions) == cells.max() == 6
    assert cells[0, 0] == cells[0, 1] != cells[0, 3]
    assert (cells_of(labels, background=1) > 0).sum() == np.isin(labels, [0, 2]).sum()


def test_median_frequency_written_out() -> None:
    # Two images of 100 pixels; the third class is in the second image alone, the last nowhere.
    pixels, area = [120, 40, 10, 0], [200, 200, 100, 0]
    assert class_weights.median_frequency(pixels, area) == pytest.approx(
        [0.2 / 0.6, 0.2 / 0.2, 0.2 / 0.1, 1.0]
    )
    assert class_weights.median_frequency([0, 0], [0, 0]) == [1, 1]


def test_enet_weights_written_out() -> None:
    found = class_weights.enet([75, 25, 0])
    assert found == pytest.approx([1 / np.log(1.77), 1 / np.log(1.27), 1 / np.log(1.02)])
    assert found[-1] == pytest.approx(50.5, abs=0.01)


class Maps(SemanticModel):
    def __init__(self) -> None:
        super().__init__(3)
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        logits = self.conv(images)
        return {"logits": logits, "aux": [logits[..., ::2, ::2], logits[..., ::4, ::4]]}


class Truth:
    def __init__(self, semantic, pixel_weights=None) -> None:
        self.semantic, self.pixel_weights = semantic, pixel_weights


class Data:
    """As much of a prepared dataset as weights need."""

    name, description_file = "toys", "dataset.json"
    table = CategoryTable(tuple(Category(i, str(i), False, (i, 0, 0)) for i in range(3)))
    description = {"class_histogram": {"train": {"pixels": [60, 30, 10], "ignored": 5}}}  # noqa: RUF012


def test_recipe_chooses_the_loss_of_the_map_and_of_the_auxiliary_maps() -> None:
    torch.manual_seed(0)
    model = Maps()
    images, semantic = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    before = model.loss(model(images), Truth(semantic))
    assert set(before) == {"cross_entropy", "aux"}
    set_loss(model, recipe(loss="focal", loss_gamma=0.0, aux_weights=(0.16, 0.4)), Data())
    after = model.loss(model(images), Truth(semantic))
    assert set(after) == {"focal", "aux"}
    torch.testing.assert_close(after["focal"], before["cross_entropy"])
    own = Criterion("focal", gamma=0.0)
    coarse = [
        own(nn.functional.interpolate(one, (8, 8), mode="bilinear"), semantic)
        for one in model(images)["aux"]
    ]
    torch.testing.assert_close(after["aux"], 0.16 * coarse[0] + 0.4 * coarse[1])


def test_pixel_weights_of_the_targets_reach_the_loss() -> None:
    torch.manual_seed(1)
    model, images = Maps(), torch.randn(1, 3, 8, 8)
    semantic, weights = torch.randint(0, 3, (1, 8, 8)), torch.rand(1, 8, 8)
    found = model.loss(model(images), Truth(semantic, weights))["cross_entropy"]
    logits = model(images)["logits"]
    torch.testing.assert_close(found, cross_entropy(logits, semantic, pixel_weights=weights))
    assert found.item() != cross_entropy(logits, semantic).item()


def test_aux_weights_must_be_as_many_as_the_maps() -> None:
    model = Maps()
    set_loss(model, recipe(aux_weights=(0.4,)), Data())
    with pytest.raises(ConfigError, match="found 1 numbers, the model has 2"):
        model.loss(model(torch.randn(1, 3, 8, 8)), Truth(torch.zeros(1, 8, 8, dtype=torch.long)))


def test_enet_weights_come_from_the_training_split() -> None:
    model = Maps()
    set_loss(model, recipe(class_weighting="enet"), Data())
    expected = class_weights.enet([60, 30, 10])
    assert model.class_weights.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("key", [{"loss": "dice"}, {"aux_weights": (1.0,)}, {"border_weight": 10}])
def test_a_model_with_a_loss_of_its_own_refuses_another(key) -> None:
    with torch.device("meta"):
        model = create_model("decouplednet_tiny", 3)
    with pytest.raises(ConfigError, match=next(iter(key))):
        set_loss(model, recipe(model="decouplednet_tiny", **key), Data())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"class_weighting": "enet", "class_weight_power": 0.5}, "not several"),
        ({"loss": "dice", "border_weight": 10}, "weighs pixels"),
        ({"loss": "dise"}, "'dise'"),
    ],
)
def test_contradictions_are_refused(keys, words) -> None:
    with pytest.raises(ConfigError, match=words):
        recipe(**keys)


def test_new_keys_leave_old_digests_alone() -> None:
    plain = recipe_digest(recipe())
    assert recipe_digest(recipe(loss="cross_entropy", border_weight=0.0)) == plain
    assert recipe_digest(recipe(loss="ohem")) != plain
