from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from segbench.core.checked_yaml import parse
from segbench.core.errors import ConfigError
from segbench.inference import dense_crf as module
from segbench.inference.dense_crf import (
    CrfSettings,
    WindowKernel,
    dense_crf,
    mean_field,
    pairwise_kernels,
    softmax,
)
from segbench.inference.predict import crf_logits
from segbench.layers.permutohedral import build_lattice
from segbench.models.registry import model_info
from segbench.training.recipe import Recipe, inference_digest, recipe_digest
from segbench.workflow.cell import Cell

RECIPE = {
    "model": "fcn_tiny",
    "dataset": "digit_scenes",
    "task": "semantic",
    "iterations": 10,
    "batch_size": 2,
    "base_lr": 0.1,
}


def scene(height: int = 24, width: int = 20, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of blobs and an image of smooth colours with an edge, by formulas."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (3 + k)) + np.cos(columns / (4 - k) + k) for k in range(classes)]
    probabilities = softmax(np.stack(waves, -1).reshape(-1, classes).astype(np.float32))
    image = np.stack([5 * rows, 4 * columns, 90 * (columns > 9) + rows], -1).astype(np.uint8)
    return np.ascontiguousarray(probabilities.T).reshape(classes, height, width), image


def naive(probabilities: np.ndarray, image: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """The definition, pixel by pixel, in float64."""
    classes, height, width = probabilities.shape
    pixels = list(itertools.product(range(height), range(width)))

    def kernel(xy: float, rgb: float | None) -> np.ndarray:
        matrix = np.zeros((len(pixels), len(pixels)))
        for (i, a), (j, b) in itertools.product(enumerate(pixels), enumerate(pixels)):
            square = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / xy**2
            if rgb is not None:
                apart = image[a].astype(float) - image[b].astype(float)
                square += (apart**2).sum() / rgb**2
            matrix[i, j] = math.exp(-square / 2)
        mass = matrix.sum(axis=1)
        return matrix / np.sqrt(mass[:, None] * mass[None, :])

    both = settings.spatial_weight * kernel(settings.spatial_std, None)
    both += settings.bilateral_weight * kernel(
        settings.bilateral_xy_std, settings.bilateral_rgb_std
    )
    unary = np.log(probabilities.reshape(classes, -1).astype(float))
    marginals = np.exp(unary)
    for _ in range(settings.iterations):
        energy = -unary
        for label in range(classes):
            for other in range(classes):
                if other != label:
                    energy[label] += both @ marginals[other]
        marginals = np.exp(-energy)
        marginals /= marginals.sum(axis=0)
    return marginals.reshape(probabilities.shape)


def slow_lattice(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The lattice by dictionaries: simplices from sorted residues, as the publication says."""
    dims = features.shape[1]
    basis = np.zeros((dims, dims + 1))
    for i in range(dims):  # rows: orthogonal directions of the plane of coordinates' sum 0
        basis[i, : i + 1], basis[i, i + 1] = 1, -(i + 1)
        basis[i] /= np.sqrt((i + 1) * (i + 2))
    high = features.astype(float) @ basis * (dims + 1) * np.sqrt(2 / 3)
    splats = []
    for point in high:
        base = np.round(point / (dims + 1)) * (dims + 1)
        order = np.argsort(-(point - base), kind="stable")
        surplus = int(base.sum()) // (dims + 1)
        if surplus > 0:
            base[order[len(order) - surplus :]] -= dims + 1
        else:
            base[order[:-surplus]] += dims + 1
        residue = point - base
        order = np.argsort(-residue, kind="stable")
        falling = residue[order]
        shares = [1 - (falling[0] - falling[-1]) / (dims + 1)]
        shares += [
            (falling[dims - k] - falling[dims + 1 - k]) / (dims + 1) for k in range(1, dims + 1)
        ]
        for k, share in enumerate(shares):
            vertex = base + k
            vertex[order[dims + 1 - k :]] -= dims + 1
            splats.append((tuple(vertex.astype(int)), share))
    table: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(values.shape[1]))
    for n, (vertex, share) in enumerate(splats):
        table[vertex] = table[vertex] + share * values[n // (dims + 1)]
    for axis in range(dims + 1):
        step = np.ones(dims + 1, dtype=int)
        step[axis] -= dims + 1
        table = {
            vertex: value
            + sum(table.get(tuple(np.add(vertex, sign * step)), 0) for sign in (-1, 1)) / 2
            for vertex, value in table.items()
        }
    read = np.array([share * table[vertex] for vertex, share in splats])
    return read.reshape(len(features), dims + 1, -1).sum(axis=1) / (1 + 2.0**-dims)


@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_lattice_equals_a_lattice_of_dictionaries(dims: int) -> None:
    rng = np.random.default_rng(dims)
    features = rng.normal(0, 1.5, size=(60, dims)).astype(np.float32)
    values = rng.normal(size=(60, 4)).astype(np.float32)
    found = build_lattice(features).filter(values)
    assert np.abs(found - slow_lattice(features, values)).max() < 1e-5


def test_lattice_shares_a_point_among_its_vertices() -> None:
    lattice = build_lattice(np.random.default_rng(0).normal(0, 9, size=(500, 5)))
    assert np.allclose(lattice.weights.sum(axis=1), 1, atol=1e-5)
    assert lattice.weights.min() > -1e-6
    vertices = lattice.neighbours.shape[2]
    assert set(np.unique(lattice.corners)) == set(range(vertices))
    for up, down in lattice.neighbours:
        known = up < vertices
        assert np.array_equal(down[up[known]], np.flatnonzero(known))


def test_adjoint_filter_is_the_transpose() -> None:
    rng = np.random.default_rng(1)
    lattice = build_lattice(rng.normal(0, 2, size=(40, 5)))
    matrix = lattice.filter(np.eye(40, dtype=np.float32))
    turned = lattice.filter(np.eye(40, dtype=np.float32), adjoint=True)
    assert np.allclose(matrix.T, turned, atol=1e-6)
    assert not np.allclose(matrix, turned, atol=1e-6)


def test_lattice_is_near_the_gaussian() -> None:
    features = np.random.default_rng(2).normal(0, 1, size=(1500, 2)).astype(np.float32)
    apart = ((features[:, None] - features[None]) ** 2).sum(-1)
    exact = np.exp(-apart / 2).sum(axis=1)
    ratio = build_lattice(features).filter(np.ones((1500, 1)))[:, 0] / exact
    assert ratio.std() / ratio.mean() < 0.05


def test_exact_kernel_equals_the_definition() -> None:
    probabilities, image = scene(6, 5)
    settings = CrfSettings(iterations=3, bilateral_xy_std=4, bilateral_rgb_std=20, kernel="exact")
    found = dense_crf(probabilities, image, settings)
    assert np.abs(found - naive(probabilities, image, settings)).max() < 1e-5
    assert np.abs(found - probabilities).max() > 0.1


@pytest.mark.parametrize(("iterations", "largest", "mean"), [(1, 0.08, 0.02), (10, 0.2, 0.02)])
def test_lattice_is_near_brute_force(iterations: int, largest: float, mean: float) -> None:
    probabilities, image = scene()
    settings = CrfSettings(iterations=iterations, bilateral_xy_std=10, bilateral_rgb_std=20)
    found = dense_crf(probabilities, image, settings)
    exact = dense_crf(probabilities, image, replace(settings, kernel="exact"))
    assert np.abs(found - exact).max() < largest
    assert np.abs(found - exact).mean() < mean
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_window_that_holds_the_image_is_exact() -> None:
    probabilities, image = scene(12, 10)
    settings = CrfSettings(bilateral_xy_std=8, bilateral_rgb_std=20, spatial_std=8)
    found = dense_crf(probabilities, image, replace(settings, kernel="window"))
    exact = dense_crf(probabilities, image, replace(settings, kernel="exact"))
    assert np.abs(found - exact).max() < 1e-3


def test_window_takes_every_step_th_pixel_within_reach() -> None:
    kernel = WindowKernel(np.zeros((7, 40, 2), np.float32), np.ones((280, 1), np.float32), 8, 3)
    heard = kernel.filter(np.ones((280, 1), np.float32)).reshape(7, 40) / 9
    rows, columns = [1, 4], range(1, 40, 3)
    expected = [sum(abs(x - c) <= 8 for c in columns) * len(rows) for x in range(40)]
    assert np.array_equal(heard, np.tile(expected, (7, 1)))


def test_nothing_to_add_changes_nothing() -> None:
    probabilities, image = scene()
    none = dense_crf(probabilities, image, CrfSettings(iterations=0))
    mute = dense_crf(probabilities, image, CrfSettings(spatial_weight=0, bilateral_weight=0))
    assert np.allclose(none, probabilities, atol=1e-6)
    assert np.allclose(mute, probabilities, atol=1e-6)
    assert pairwise_kernels(image, CrfSettings(spatial_weight=0, bilateral_weight=0)) == []
    assert np.array_equal(mean_field(np.zeros((4, 2), np.float32), [], 3), np.full((4, 2), 0.5))


def test_labels_follow_the_edges_of_the_image() -> None:
    image = np.full((40, 40, 3), 60, np.uint8)
    image[:, 17:] = 180
    truth = np.arange(40) >= 17
    rng = np.random.default_rng(5)
    votes = np.clip(np.where(truth, 0.6, 0.4) + rng.normal(0, 0.2, size=(40, 40)), 0.02, 0.98)
    probabilities = np.stack([1 - votes, votes])
    before = (probabilities.argmax(0) == truth).mean()
    after = (dense_crf(probabilities, image).argmax(0) == truth).mean()
    assert before < 0.8
    assert after == 1


RECORDED = {
    (0, 0, 31): 0.723426,
    (0, 19, 32): 0.454783,
    (0, 39, 24): 0.69261,
    (1, 21, 34): 0.681791,
    (1, 39, 13): 0.864641,
    (2, 16, 30): 0.745579,
}
"""Marginals that pydensecrf2 1.1 gave for the scene of 40 x 48 pixels after 5 iterations."""


def test_agrees_with_recorded_marginals_of_pydensecrf() -> None:
    probabilities, image = scene(40, 48)
    found = dense_crf(probabilities, image, CrfSettings(iterations=5))
    for place, marginal in RECORDED.items():
        assert found[place] == pytest.approx(marginal, abs=1e-4)
        assert abs(probabilities[place] - marginal) > 1e-3


def test_agrees_with_pydensecrf() -> None:
    peer = pytest.importorskip("pydensecrf.densecrf")
    probabilities, image = scene(40, 48)
    crf = peer.DenseCRF2D(48, 40, 3)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities).reshape(3, -1)))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=image, compat=4)
    theirs = np.array(crf.inference(10)).reshape(3, 40, 48)
    assert np.abs(dense_crf(probabilities, image) - theirs).max() < 1e-3


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, image = scene()
    monkeypatch.setattr(module, "EXACT_PIXELS", 100)
    with pytest.raises(ConfigError, match="up to 100 pixels, found 480"):
        dense_crf(probabilities, image, CrfSettings(kernel="exact"))
    with pytest.raises(ValueError, match="the image is"):
        dense_crf(probabilities, image[1:])
    with pytest.raises(ConfigError, match="crf_iterations is for task: semantic"):
        parse(Recipe, RECIPE | {"task": "instance", "crf_iterations": 10}, "recipe")
    with pytest.raises(ConfigError, match="Did you mean 'crf_iterations'"):
        parse(Recipe, RECIPE | {"crf_iteration": 10}, "recipe")


def test_a_crf_predicts_again_but_does_not_train_again() -> None:
    plain, crf = parse(Recipe, RECIPE, ""), parse(Recipe, RECIPE | {"crf_iterations": 10}, "")
    assert recipe_digest(plain) == recipe_digest(crf)
    assert inference_digest(plain) != inference_digest(crf)
    assert inference_digest(plain) == inference_digest(
        parse(Recipe, RECIPE | {"crf_iterations": 0, "crf_kernel": "lattice"}, "")
    )
    model = model_info("fcn_tiny")
    names = [
        Cell("d", "fcn_tiny", 0, "val", ("semantic",), recipe, model=model).display_name
        for recipe in (plain, crf)
    ]
    assert names == ["FCN (tiny)", "FCN (tiny) + dense CRF"]
    defaults = {name: getattr(plain, f"crf_{name}") for name in CrfSettings.__dataclass_fields__}
    assert CrfSettings(**(defaults | {"iterations": 10})) == CrfSettings()


def test_prediction_applies_it_to_the_softmax_and_the_colours() -> None:
    probabilities, image = scene()
    recipe = parse(
        Recipe, RECIPE | {"crf_iterations": 4, "crf_bilateral_rgb_std": 15, "mean": [0.4] * 3}, ""
    )
    shape = (3, 1, 1)
    mean, std = torch.tensor(recipe.mean).view(shape), torch.tensor(recipe.std).view(shape)
    images = ((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]
    logits = torch.from_numpy(probabilities).log()[None] + 2.5
    found = crf_logits(logits, images, recipe)[0].exp().numpy()
    expected = dense_crf(probabilities, image, CrfSettings(4, bilateral_rgb_std=15))
    assert np.abs(found - expected).max() < 1e-4
