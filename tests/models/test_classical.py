"""Classical baselines: the regions, what is measured of them, and the classifier's training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from segbench.layers.region_features import GRID, NUM_FEATURES, region_features
from segbench.layers.regions import (
    normalized_cut_regions,
    quickshift_regions,
    watershed_regions,
)
from segbench.models.classical import count_votes
from segbench.models.registry import create_model, model_infos
from segbench.training.data import Targets

CUTS = (watershed_regions, normalized_cut_regions, quickshift_regions)
MODELS = ("classical_watershed", "classical_normalized_cut", "classical_quickshift")
TOLERANCE = {"watershed_regions": 0.99, "normalized_cut_regions": 0.95, "quickshift_regions": 0.99}
"""Pixels that must lie in a region of their own object; superpixels cut corners."""


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image [48, 60, 3] with a red box and a blue disc on grey, and the object of each pixel."""
    rows, columns = np.mgrid[:48, :60]
    objects = np.zeros((48, 60), dtype=np.int64)
    objects[8:30, 6:24] = 1
    objects[(rows - 28) ** 2 + (columns - 42) ** 2 < 12**2] = 2
    colors = np.array([[0.5, 0.5, 0.5], [0.9, 0.1, 0.1], [0.1, 0.2, 0.9]])
    noise = np.random.default_rng(seed).normal(0, 0.01, (48, 60, 3))
    return (colors[objects] + noise).clip(0, 1), objects


@pytest.mark.parametrize("cut", CUTS)
def test_regions_follow_the_objects(cut: Callable[..., np.ndarray]) -> None:
    image, objects = scene()
    regions = cut(image)
    assert regions.shape == objects.shape and regions.dtype == np.int64
    number = regions.max() + 1
    assert np.array_equal(np.unique(regions), np.arange(number))
    assert 3 <= number < 200
    votes = np.bincount(regions.ravel() * 3 + objects.ravel(), minlength=3 * number).reshape(-1, 3)
    assert votes.max(1).sum() / objects.size >= TOLERANCE[cut.__name__]
    assert np.array_equal(regions, cut(image))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (3, 2), (40, 30)])
def test_plain_and_tiny_images_have_regions(
    cut: Callable[..., np.ndarray], size: tuple[int, int]
) -> None:
    for image in (np.zeros((*size, 3)), np.random.default_rng(0).random((*size, 3))):
        regions = cut(image)
        features = region_features(image, regions)
        assert features.shape == (regions.max() + 1, NUM_FEATURES)
        assert np.isfinite(features).all()


def test_merging_joins_like_neighbours() -> None:
    image, _ = scene()
    numbers = [int(watershed_regions(image, depth=0.5, merge=m).max()) + 1 for m in (0, 5, 200)]
    assert numbers[0] > numbers[1] == 3 > numbers[2] == 1


def test_features_of_known_regions() -> None:
    _, objects = scene()
    clean = np.array([[0.5, 0.5, 0.5], [1, 0, 0], [0, 0, 1]])[objects]
    features = region_features(clean, objects)
    assert features[1, :3] == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert features[:, 3:6] == pytest.approx(0, abs=1e-2)
    place = 7 + 8 + 10
    assert features[1, place : place + 2] == pytest.approx([19 / 48 - 0.5, 15 / 60 - 0.5], abs=1e-6)
    extent = features[1, place + 3 : place + 8]
    expected = [np.log(22 * 18 / 2880), 22 / 48, 18 / 60, 1, np.log(22 / 18)]
    assert extent == pytest.approx(expected, abs=1e-6)
    difference = features[1, place + 9 : place + 12]
    assert difference == pytest.approx(features[0, :3] - features[1, :3], abs=1e-3)


def test_the_form_is_a_picture_of_the_region() -> None:
    """A letter L of cells of 4x4 pixels fills just its cells of the grid."""
    cells = np.zeros((GRID, GRID), dtype=bool)
    cells[:, :2] = cells[-2:] = True
    labels = np.zeros((48, 48), dtype=np.int64)
    labels[8:40, 4:36] = np.kron(cells, np.ones((4, 4), dtype=np.int64))
    form = region_features(np.full((48, 48, 3), 0.5), labels)[1, -GRID * GRID :]
    assert np.array_equal(form.reshape(GRID, GRID), cells)


def test_features_do_not_depend_on_the_numbers_of_regions() -> None:
    image, objects = scene()
    order = np.array([2, 0, 1])
    assert region_features(image, order[objects])[order] == pytest.approx(
        region_features(image, objects), abs=1e-5
    )


def test_votes_leave_ignored_pixels_out() -> None:
    regions = torch.tensor([[[0, 0, 1], [1, 2, 2]]])
    semantic = torch.tensor([[[1, 255, 0], [1, 255, 255]]])
    assert count_votes(regions, semantic, 3, 2).tolist() == [[0, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize("name", MODELS)
def test_training_learns_the_regions(name: str) -> None:
    """Ten images of the same kind of scene teach an eleventh; void teaches nothing."""
    torch.manual_seed(0)
    model = create_model(name, 3)
    scenes = [scene(seed) for seed in range(11)]
    images = torch.tensor(np.stack([image for image, _ in scenes])).permute(0, 3, 1, 2).float()
    truth = torch.tensor(np.stack([objects for _, objects in scenes]))
    truth[:, :4] = 255
    targets = Targets(truth[:10], None, [(48, 60)] * 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        (loss,) = model.loss(model(images[:10]), targets).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    (prediction,) = model.predict(model(images[10:]), [(48, 60)])
    assert (prediction.semantic == scenes[10][1]).mean() > 0.9


def test_a_training_image_is_cut_once() -> None:
    model = create_model("classical_watershed", 3).train()
    calls = []
    cut = model.cut
    model.cut = lambda image: calls.append(1) or cut(image)
    images = torch.rand(2, 3, 24, 24)
    for _ in range(3):
        model(images)
    assert len(calls) == 2
    model(images.flip(-1))
    assert len(calls) == 4
    model.eval()(images)
    assert len(calls) == 6, "predictions, whose time is measured, cut anew"


def test_normalisation_of_the_recipe_does_not_matter() -> None:
    image, _ = scene()
    images = torch.tensor(image).permute(2, 0, 1)[None].float()
    model = create_model("classical_quickshift", 3).eval()
    with torch.no_grad():
        expected, found = (model(x)["logits"] for x in (images, (images - 0.45) / 0.25))
    assert torch.allclose(expected, found, atol=1e-3)


def test_an_ignored_batch_teaches_nothing() -> None:
    model = create_model("classical_watershed", 3).train()
    targets = Targets(torch.full((1, 24, 24), 255), None, [(24, 24)])
    (loss,) = model.loss(model(torch.rand(1, 3, 24, 24)), targets).values()
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters())


def test_the_registry_says_they_are_not_deep() -> None:
    infos = model_infos()
    assert {name for name, info in infos.items() if not info.deep} == set(MODELS)
