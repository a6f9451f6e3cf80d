"""Rates by layer, against the numbers that the authors' rules give for names of their networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segbench.core.checked_yaml import parse
from segbench.models.internimage import InternImage
from segbench.models.parts.swin import OutputNorms
from segbench.models.registry import create_model
from segbench.training.optim import build_optimizer
from segbench.training.recipe import Recipe


def rates(model: nn.Module, **changes: object) -> dict[str, float]:
    """Return the factor on the rate of each parameter by its name."""
    values = {"model": "m", "dataset": "d", "task": "semantic", "iterations": 1, "batch_size": 1}
    recipe = parse(Recipe, {**values, "base_lr": 1.0, **changes}, "recipe")
    groups = build_optimizer(model, recipe).param_groups
    found = {id(p): group["lr_factor"] for group in groups for p in group["params"]}
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "layers"), [("upernet_convnext_t", 6), ("upernet_convnext_s", 12)]
)
def test_stages_of_convnext(name: str, layers: int) -> None:
    """By stages: 0.9 to the power of 7 (13) - s in stage s, one more for stem and steps down."""
    with torch.device("meta"):
        model = create_model(name, 150)
    found = rates(model, layer_decay=0.9, backbone_lr_factor=0.9 ** (layers - 3))
    body = "backbone.body.network."
    assert found[f"{body}stem_0.weight"] == pytest.approx(0.9 ** (layers + 1))
    assert found[f"{body}stages_3.downsample.1.weight"] == pytest.approx(0.9 ** (layers + 1))
    for stage in range(4):
        depth = layers - stage
        assert found[f"{body}stages_{stage}.blocks.0.gamma"] == pytest.approx(0.9**depth)
    assert {v for k, v in found.items() if not k.startswith(body)} == {1.0}
    assert isinstance(model.backbone, OutputNorms)


def test_stages_of_slak() -> None:
    with torch.device("meta"):
        model = create_model("upernet_slak_t", 150)
    found = rates(model, layer_decay=0.9, backbone_lr_factor=0.9**3)
    assert found["backbone.downs.0.0.bias"] == pytest.approx(0.9**7)
    assert found["backbone.stages.0.0.scale"] == pytest.approx(0.9**6)
    assert found["backbone.stages.3.0.scale"] == pytest.approx(0.9**3)
    assert found["head.classifier.1.weight"] == 1.0


def test_blocks_of_internimage() -> None:
    """Size H: 50 blocks and a stem; a step down has the rate of the block that follows it."""
    with torch.device("meta"):
        model = create_model("upernet_internimage_h", 150)
    assert isinstance(model.backbone, InternImage)
    assert len(model.backbone.layers()) == 51
    assert sum(map(len, model.backbone.layers())) == len(list(model.backbone.parameters()))
    found = rates(model, layer_decay=0.95, backbone_lr_factor=0.95)
    assert found["backbone.stem.first.weight"] == pytest.approx(0.95**51)
    assert found["backbone.stages.0.blocks.0.mlp.inner.0.weight"] == pytest.approx(0.95**50)
    assert found["backbone.downs.0.conv.weight"] == pytest.approx(0.95**44)
    assert found["backbone.stages.1.blocks.0.mlp.inner.0.weight"] == pytest.approx(0.95**44)
    assert found["backbone.stages.2.norms.0.weight"] == pytest.approx(0.95**33)
    assert found["backbone.stages.2.blocks.5.mlp.inner.0.weight"] == pytest.approx(0.95**33)
    assert found["backbone.stages.3.blocks.5.mlp.inner.0.weight"] == pytest.approx(0.95)
    assert found["aux_head.2.weight"] == 1.0


def test_decay_spares_what_the_authors_of_swin_spare() -> None:
    with torch.device("meta"):
        model = create_model("upernet_swin_t", 150)
    values = {"model": "m", "dataset": "d", "task": "semantic", "iterations": 1, "batch_size": 1}
    changes = {"base_lr": 1.0, "weight_decay": 0.01, "norm_weight_decay": False}
    groups = build_optimizer(model, parse(Recipe, {**values, **changes}, "recipe")).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    spared = {name for name, p in model.named_parameters() if id(p) not in decayed}
    norms = {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)
        for key in ("weight", "bias")
    }
    tables = {n for n, _ in model.named_parameters() if n.endswith("position_bias_table")}
    assert len(tables) == 12
    assert spared == norms | tables
