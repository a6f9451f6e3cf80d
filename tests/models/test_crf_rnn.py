from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from segbench.core.checked_yaml import parse
from segbench.layers.mean_field import (
    MeanField,
    MeanFilter,
    filter_by_indexing,
    lattice_filter,
    lattice_tensors,
)
from segbench.layers.permutohedral import build_lattice
from segbench.models.registry import create_model
from segbench.training.build import build_model
from segbench.training.recipe import Recipe

SIDE = (9, 7)
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def pictures(number: int = 1, size: tuple[int, int] = SIDE) -> torch.Tensor:
    """Smooth colours from 0 to 255, [N, 3, H, W]."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    waves = [torch.sin(rows / (2 + k)) + torch.cos(columns / 3 + k) for k in range(3)]
    return torch.stack([torch.stack(waves) * (40 + 7 * n) + 120 for n in range(number)])


def layer(classes: int = 3, **options: float) -> MeanField:
    return MeanField(classes, theta_alpha=6.0, theta_beta=30.0, theta_gamma=2.0, **options)


def random_logits(number: int, classes: int = 3) -> torch.Tensor:
    return torch.randn(number, classes, *SIDE, generator=torch.Generator().manual_seed(4))


def test_parameters_are_those_of_the_authors_release():
    with torch.device("meta"):
        model = create_model("crf_rnn", 21)
        plain = create_model("fcn_8s", 21)
    count = sum(p.numel() for p in model.parameters())
    own = sum(p.numel() for p in model.mean_field.parameters())
    assert (count, own) == (134_491_103, 1_323)
    assert count - own - sum(p.numel() for p in plain.parameters()) == 21
    assert all(p.requires_grad for p in model.parameters())
    assert model.unary.upscore2.bias.shape == (21,)
    assert (model.mean_field.training_iterations, model.mean_field.iterations) == (5, 10)


def test_an_added_bias_of_the_upsampler_is_used():
    with torch.device("meta"):
        unary = create_model("crf_rnn", 2).unary
    upsampler = unary.upscore2.to_empty(device="cpu")
    with torch.no_grad():
        upsampler.weight.zero_()
        upsampler.bias.copy_(torch.tensor([3.0, -1.0]))
    assert torch.equal(upsampler(torch.zeros(1, 2, 1, 1))[0, :, 0, 0], torch.tensor([3.0, -1.0]))


def test_without_kernel_weights_it_is_the_softmax_of_the_unary():
    torch.manual_seed(0)
    model = create_model("crf_rnn_tiny", 4).eval()
    with torch.no_grad():
        model.mean_field.spatial_weights.zero_()
        model.mean_field.bilateral_weights.zero_()
        images = torch.randn(2, 3, 33, 41)
        found, unary = model(images)["logits"], model.unary(images)["logits"]
    assert torch.equal(found.softmax(1), unary.softmax(1))


def test_messages_change_the_unary():
    logits = random_logits(1)
    assert not torch.allclose(layer()(logits, pictures()), logits, atol=0.1)


@pytest.mark.parametrize("training", [True, False])
def test_steps_are_those_of_the_formula(training: bool):
    field = layer(spatial_weight=0.7, bilateral_weight=1.2).train(training)
    with torch.no_grad():
        for weights in field.parameters():
            weights += 0.3 * torch.rand(3, 3, generator=torch.Generator().manual_seed(1))
    logits, colours = random_logits(1), pictures()
    found = field(logits, colours)[0].detach().flatten(1).numpy()
    rows, columns = np.mgrid[: SIDE[0], : SIDE[1]]
    place = np.stack([columns.ravel(), rows.ravel()], axis=1)
    paint = colours[0].flatten(1).T.numpy()
    lattices = [build_lattice(place / 2.0), build_lattice(np.hstack([place / 6.0, paint / 30.0]))]
    matrices = [field.spatial_weights, field.bilateral_weights, field.compatibility]
    spatial, bilateral, compatibility = (m.detach().numpy() for m in matrices)
    unary = logits[0].flatten(1).numpy()
    now = unary
    for _ in range(5 if training else 10):
        marginals = np.exp(now) / np.exp(now).sum(axis=0)
        means = [
            lattice.filter(marginals.T).T / lattice.filter(np.ones((len(place), 1))).T
            for lattice in lattices
        ]
        now = unary + compatibility @ (spatial @ means[0] + bilateral @ means[1])
    assert np.abs(found - now).max() < 1e-4


def test_gradients_equal_finite_differences():
    field = MeanField(3, theta_alpha=4.0, theta_beta=40.0, theta_gamma=1.5, training_iterations=2)
    field = field.double()
    colours = pictures(2, (3, 4)).double()
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)

    def run(logits: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        names = [name for name, _ in field.named_parameters()]
        values = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(field, values, (logits, colours))

    weights = [p.detach().clone().requires_grad_() for p in field.parameters()]
    assert torch.autograd.gradcheck(run, (logits, *weights))


def test_filter_has_the_gradient_of_its_transpose():
    torch.manual_seed(2)
    lattice = lattice_tensors(torch.rand(30, 5) * 3)
    values = torch.rand(30, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: lattice_filter(v, *lattice, False), values)
    assert torch.autograd.gradcheck(lambda v: lattice_filter(v, *lattice, True), values)
    assert torch.library.opcheck(lattice_filter, (values, *lattice, False), test_utils=CHECKS)


@pytest.mark.parametrize("adjoint", [False, True])
def test_filter_of_other_devices_is_the_same(adjoint: bool):
    torch.manual_seed(3)
    lattice = lattice_tensors(torch.rand(50, 5) * 4)
    values = torch.rand(50, 7)
    ours = lattice_filter(values, *lattice, adjoint)
    theirs = filter_by_indexing(values, *lattice, adjoint)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_mean_of_a_constant_is_the_constant():
    mean = MeanFilter.of(torch.rand(40, 2) * 5)
    assert torch.allclose(mean(torch.full((40, 3), 2.5)), torch.tensor(2.5), rtol=1e-5)


def test_images_of_a_batch_do_not_hear_each_other():
    logits, colours = random_logits(3), pictures(3)
    together = layer()(logits, colours)
    alone = [layer()(logits[n : n + 1], colours[n : n + 1])[0] for n in range(3)]
    assert torch.equal(together, torch.stack(alone))


def test_colours_are_measured_in_eight_bits(monkeypatch: pytest.MonkeyPatch):
    values = {"model": "crf_rnn_tiny", "dataset": "x", "task": "semantic", "iterations": 1}
    recipe = parse(Recipe, values | {"batch_size": 1, "base_lr": 0.1, "std": [0.2, 0.25, 0.1]}, "")

    class Table:
        thing_train_ids = ()

        def __len__(self) -> int:
            return 3

    model = build_model(recipe, Table())  # type: ignore[arg-type]
    seen = []
    monkeypatch.setattr(model.mean_field, "forward", lambda logits, c: seen.append(c) or logits)
    model(torch.ones(1, 3, 32, 32))
    assert torch.allclose(seen[0][0, :, 0, 0], torch.tensor([0.685, 0.706, 0.506]) * 255)


def test_half_precision_around_it_leaves_it_in_full():
    torch.manual_seed(0)
    model = create_model("crf_rnn_tiny", 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(1, 3, 32, 32))["logits"]
    logits.square().mean().backward()
    assert logits.dtype == torch.float32
    for parameter in model.mean_field.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_it_can_be_exported_and_counted_without_data():
    torch.manual_seed(0)
    model = create_model("crf_rnn_tiny", 4).eval()
    first, second = torch.randn(2, 1, 3, 33, 40)
    exported = torch.export.export(model, (first,)).module()
    with torch.no_grad():
        assert torch.equal(exported(second)["logits"], model(second)["logits"])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape = model.to("meta")(first.to("meta"))["logits"].shape
    assert shape == (1, 4, 33, 40)
    assert counter.get_total_flops() > 2 * 10 * 3 * 33 * 40 * 4 * 4
