from __future__ import annotations

import pytest
import torch
import training_toys
from torch import nn

from segbench.optim import build_optimizer, learning_rate, set_learning_rate


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
