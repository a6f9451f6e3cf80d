from __future__ import annotations

import pytest
import torch
from torch import nn

from segbench.core.errors import ConfigError
from segbench.training.optim import build_optimizer, learning_rate, set_learning_rate
from tests.training import training_toys


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_schedules_equal_those_of_torch(schedule: str) -> None:
    recipe = training_toys.recipe(schedule=schedule, warmup_iterations=0, poly_power=0.9)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.base_lr)
    if schedule == "poly":
        expected = torch.optim.lr_scheduler.PolynomialLR(optimizer, recipe.iterations, power=0.9)
    else:
        expected = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.iterations)
    for iteration in range(recipe.iterations):
        assert learning_rate(recipe, iteration) == pytest.approx(expected.get_last_lr()[0])
        optimizer.step()
        expected.step()


def test_poly_falls_to_its_end() -> None:
    recipe = training_toys.recipe(warmup_iterations=0, base_lr=0.05, poly_power=2.0, final_lr=0.01)
    half = learning_rate(recipe, recipe.iterations // 2)
    assert [learning_rate(recipe, 0), half] == pytest.approx([0.05, 0.01 + 0.04 * 0.25])
    assert learning_rate(recipe, recipe.iterations) == 0.01
    for wrong in ({"schedule": "cosine", "final_lr": 0.01}, {"base_lr": 0.01, "final_lr": 0.1}):
        with pytest.raises(ConfigError, match="final_lr is for schedule: poly"):
            training_toys.recipe(**wrong)


def test_warm_up_rises_linearly_to_the_base_rate() -> None:
    recipe = training_toys.recipe(warmup_iterations=4, base_lr=1.0, schedule="constant")
    assert [learning_rate(recipe, i) for i in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]


def test_backbone_learns_at_its_own_rate() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 1)
            self.head.bias.requires_grad_(False)

        def backbone_parameters(self):
            return self.backbone.parameters()

    model = Model()
    optimizer = build_optimizer(model, training_toys.recipe(backbone_lr_factor=0.1))
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates == {
        id(model.head.weight): 0.5,
        id(model.backbone.weight): 0.05,
        id(model.backbone.bias): 0.05,
    }


def test_optimizer_of_the_recipe() -> None:
    recipe = training_toys.recipe(optimizer="adamw", weight_decay=0.03)
    optimizer = build_optimizer(nn.Linear(2, 2), recipe)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["weight_decay"] == 0.03


def test_biases_learn_at_their_own_rate_in_backbone_and_head() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

        def backbone_parameters(self):
            return self.backbone.parameters()

    model = Model()
    recipe = training_toys.recipe(backbone_lr_factor=0.1, bias_lr_factor=2.0)
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates == {
        id(model.head.weight): 0.5,
        id(model.head.bias): 1.0,
        id(model.backbone.weight): 0.05,
        id(model.backbone.bias): 0.1,
    }


@pytest.mark.parametrize(("interval", "factor"), [(3, 0.1), (1, 0.995)])
def test_steps_equal_those_of_torch(interval: int, factor: float) -> None:
    recipe = training_toys.recipe(
        schedule="step", step_interval=interval, step_factor=factor, warmup_iterations=0
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.base_lr)
    expected = torch.optim.lr_scheduler.StepLR(optimizer, interval, gamma=factor)
    for iteration in range(recipe.iterations):
        assert learning_rate(recipe, iteration) == pytest.approx(expected.get_last_lr()[0])
        optimizer.step()
        expected.step()


def test_steps_are_counted_from_the_end_of_the_warm_up() -> None:
    recipe = training_toys.recipe(
        schedule="step", step_interval=2, step_factor=0.5, warmup_iterations=1, base_lr=1.0
    )
    assert [learning_rate(recipe, i) for i in range(6)] == [0.5, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_steps_need_an_interval_or_places() -> None:
    both = {"schedule": "step", "step_interval": 5, "step_at": [3]}
    for values in ({"schedule": "step"}, {"step_interval": 5}, {"step_at": [3]}, both):
        with pytest.raises(ConfigError, match="schedule: step and one of"):
            training_toys.recipe(**values)


def test_rmsprop_divides_by_the_smoothed_square() -> None:
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 1.0)
    recipe = training_toys.recipe(optimizer="rmsprop", base_lr=0.01, weight_decay=0.0)
    optimizer = build_optimizer(weight, recipe)
    set_learning_rate(optimizer, 0.01)
    weight.weight.grad = torch.full_like(weight.weight, 3.0)
    optimizer.step()
    # the mean of squares starts at 0: after one step it is (1 - 0.9) 3^2
    assert weight.weight.item() == pytest.approx(1 - 0.01 * 3 / (0.1 * 9) ** 0.5, abs=1e-6)


def test_decay_of_adam_goes_through_its_moments() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    recipe = training_toys.recipe(optimizer="adam", base_lr=0.01, weight_decay=0.5)
    optimizer = build_optimizer(layer, recipe)
    set_learning_rate(optimizer, 0.01)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    # with decay in the gradient the first step is the rate, whatever the decay
    assert layer.weight.item() == pytest.approx(1.99, abs=1e-6)


def test_biases_may_be_left_out_of_weight_decay() -> None:
    model = nn.Linear(2, 2)
    recipe = training_toys.recipe(weight_decay=0.01, bias_weight_decay=False)
    groups = build_optimizer(model, recipe).param_groups
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decays == {id(model.weight): 0.01, id(model.bias): 0.0}
    with_biases = build_optimizer(model, training_toys.recipe(weight_decay=0.01)).param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in with_biases] == [(0.01, 2)]


def test_steps_at_given_places_equal_those_of_torch() -> None:
    recipe = training_toys.recipe(schedule="step", step_at=[5, 20], warmup_iterations=0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.base_lr)
    expected = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 20], gamma=0.1)
    for iteration in range(recipe.iterations):
        assert learning_rate(recipe, iteration) == pytest.approx(expected.get_last_lr()[0])
        optimizer.step()
        expected.step()


def test_warm_up_may_start_at_a_share_of_the_rate() -> None:
    recipe = training_toys.recipe(
        warmup_iterations=5, warmup_start=0.1, base_lr=1.0, schedule="constant"
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    expected = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
    for iteration in range(8):
        assert learning_rate(recipe, iteration) == pytest.approx(expected.get_last_lr()[0])
        optimizer.step()
        expected.step()
    with pytest.raises(ConfigError, match="warmup_start needs warmup_iterations"):
        training_toys.recipe(warmup_iterations=0, warmup_start=0.1)


class Scaled(nn.Module):
    """A linear layer, a norm, a factor of each channel, queries and a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)
        self.gamma = nn.Parameter(torch.ones(2))
        self.queries = nn.Embedding(3, 2)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))


@pytest.mark.parametrize(
    ("biases", "decayed"),
    [(True, {"linear.weight", "linear.bias"}), (False, {"linear.weight"})],
)
def test_norms_factors_and_positions_may_be_left_out_of_weight_decay(biases, decayed) -> None:
    model = Scaled()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    recipe = training_toys.recipe(
        weight_decay=0.01, norm_weight_decay=False, bias_weight_decay=biases
    )
    groups = build_optimizer(model, recipe).param_groups
    found = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert found == decayed
    plain = build_optimizer(model, training_toys.recipe(weight_decay=0.01)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in plain] == [(0.01, 7)]


def test_layers_of_a_backbone_learn_the_slower_the_earlier() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))), Scaled()

        def backbone_parameters(self):
            return self.backbone.parameters()

        def backbone_layers(self):
            return [list(layer.parameters()) for layer in self.backbone]

    model = Model()
    recipe = training_toys.recipe(layer_decay=0.5, backbone_lr_factor=0.1)
    groups = build_optimizer(model, recipe).param_groups
    rates = {id(p): group["lr_factor"] for group in groups for p in group["params"]}
    found = [rates[id(layer.weight)] for layer in (*model.backbone, model.head.linear)]
    assert found == pytest.approx([0.025, 0.05, 0.1, 1.0])
    with pytest.raises(ConfigError, match="does not tell the layers"):
        build_optimizer(nn.Linear(2, 2), recipe)
