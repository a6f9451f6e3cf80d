"""Checks every registered architecture must pass; a new file is picked up by itself."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from segbench.core.errors import ConfigError
from segbench.models.registry import ModelInfo, create_model, model_infos

INFOS = model_infos()
EVERY = list(INFOS)
FULL = [name for name, info in INFOS.items() if info.size == "full"]
TINY = [name for name, info in INFOS.items() if info.size == "tiny"]

THINGS, STUFF = 2, 2
ARGUMENTS = {
    "semantic": (THINGS + STUFF,),
    "instance": (THINGS + 1,),
    "panoptic": (THINGS, STUFF),
}
DIVISOR = {"semantic": 1, "instance": 32, "panoptic": 32}
SIDE = 64
SIZES = [(SIDE, SIDE)] * 2
ODD = (97, 61)
COLORS = torch.tensor([[1.5, -1.0, -1.0], [-1.0, 1.5, -1.0], [-0.5, -0.5, 1.0], [0.5, 0.5, 0.5]])

CONTROLLED_BY_VALUES = {
    "decouplednet_tiny": "runs once for every class it finds: the graph depends on the image",
}
"""Models that no graph of fixed operations can express, and why."""


@dataclass(frozen=True)
class Truth:
    semantic: torch.Tensor | None
    instances: list[dict[str, torch.Tensor]] | None
    sizes: list[tuple[int, int]]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(info: ModelInfo) -> tuple[torch.Tensor, Truth]:
    """Two images of coloured boxes (things) on two halves (stuff), with their truth."""
    semantic = torch.full((2, SIDE, SIDE), THINGS)
    semantic[:, :, SIDE // 2 :] = THINGS + 1
    instances = []
    for n, offset in enumerate((4, 12)):
        boxes = [(offset, 6, offset + 24, 30), (offset + 20, 34, offset + 46, 60)]
        masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
        for thing, (left, top, right, bottom) in enumerate(boxes):
            masks[thing, top:bottom, left:right] = True
            semantic[n][masks[thing]] = thing
        instances.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32),
                "labels": torch.tensor([1, 2]),
                "masks": masks,
            }
        )
    noise = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    images = COLORS[semantic].permute(0, 3, 1, 2) + 0.1 * noise
    truth = Truth(
        None if info.task == "instance" else semantic,
        None if info.task == "semantic" else instances,
        SIZES,
    )
    return images, truth


def build(info: ModelInfo, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = create_model(info.id, *ARGUMENTS[info.task], **options)
    return model


def odd_images(info: ModelInfo) -> torch.Tensor:
    """One image of an odd size, padded as the loader pads it for this task."""
    divisor = DIVISOR[info.task]
    images = torch.randn(1, 3, *ODD, generator=torch.Generator().manual_seed(1))
    return functional.pad(images, (0, -ODD[1] % divisor, 0, -ODD[0] % divisor))


def losses_of(model: torch.nn.Module, info: ModelInfo) -> dict[str, torch.Tensor]:
    images, truth = scene(info)
    losses: dict[str, torch.Tensor] = model.loss(model(images), truth)
    return losses


def check_prediction_at_odd_size(info: ModelInfo) -> None:
    model = build(info).eval()
    with torch.no_grad():
        outputs = model(odd_images(info))
        (prediction,) = model.predict(outputs, [ODD])
    if info.task == "semantic":
        assert outputs["logits"].shape == (1, THINGS + STUFF, *ODD)
    if info.task in ("semantic", "panoptic"):
        assert prediction.semantic.shape == ODD
        assert prediction.semantic.dtype in (np.uint8, np.uint16)
        assert prediction.semantic.max() < THINGS + STUFF
    if info.task in ("instance", "panoptic"):
        found = prediction.instances
        assert found.masks.shape == (len(found), *ODD)
        assert found.masks.dtype == bool
        assert set(found.labels.tolist()) <= set(range(1, THINGS + 1))
        assert found.scores is not None and ((found.scores >= 0) & (found.scores <= 1)).all()
    if info.task == "panoptic":
        shown = set(np.unique(prediction.panoptic.ids).tolist()) - {0}
        assert prediction.panoptic.ids.shape == ODD
        assert shown == {segment.id for segment in prediction.panoptic.segments}


def check_gradients(info: ModelInfo) -> None:
    model = build(info).train()
    losses = losses_of(model, info)
    assert all(loss.shape == () for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"{name} has a non-finite gradient"


def check_state_round_trip(info: ModelInfo, file: Any) -> None:
    first, images = build(info).eval(), odd_images(info)
    save_file(first.state_dict(), file)
    second = create_model(info.id, *ARGUMENTS[info.task]).eval()
    second.load_state_dict(load_file(file))
    with torch.no_grad():
        expected = _tensors(first(images))
        assert expected
        for one, two, again in zip(
            expected, _tensors(second(images)), _tensors(first(images)), strict=True
        ):
            assert torch.equal(one, two)
            assert torch.equal(one, again)


def check_bf16_step(info: ModelInfo) -> None:
    """One optimiser step whose forward pass runs in bfloat16, as ``precision: bf16`` does."""
    model = build(info).train()
    learned = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learned]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model, info)
    loss = torch.stack([value.float() for value in losses.values()]).sum()
    assert torch.isfinite(loss)
    loss.backward()
    torch.optim.SGD(learned, lr=1e-3).step()
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in learned)
    assert any(not torch.equal(p, old) for p, old in zip(learned, before, strict=True))


def check_export(info: ModelInfo) -> None:
    """The graph of ``torch.export`` gives what the module gives, on other values too."""
    if not info.deep:
        pytest.skip("a classical method: its steps are no tensor operations")
    if info.id in CONTROLLED_BY_VALUES:
        pytest.skip(CONTROLLED_BY_VALUES[info.id])
    model, images = build(info).eval(), odd_images(info)
    with torch.no_grad():
        exported = torch.export.export(model, (images,), strict=False).module()
        expected, found = _tensors(model(images.neg())), _tensors(exported(images.neg()))
    assert expected
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(one, two)


def check_ten_steps_lower_the_loss(info: ModelInfo) -> None:
    model = build(info).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(10):
        loss = sum(losses_of(model, info).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert np.isfinite(history).all()
    assert np.mean(history[-3:]) < 0.9 * np.mean(history[:2])


def check_backbone_parameters(info: ModelInfo) -> None:
    model = build(info)
    own = {id(parameter) for parameter in model.parameters()}
    listed = [id(parameter) for parameter in model.backbone_parameters()]
    assert len(listed) == len(set(listed))
    assert set(listed) < own


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for value in values for tensor in _tensors(value)]


@pytest.mark.parametrize("name", EVERY)
def test_metadata_is_complete(name: str) -> None:
    info = INFOS[name]
    assert info.paper and info.display_name
    assert (2000 if info.deep else 1960) < info.year < 2100
    assert name == name.lower()


@pytest.mark.parametrize("name", FULL)
def test_full_size_builds_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = build(INFOS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 100_000 < count < 2_000_000_000
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_unknown_options_are_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="no_such_option"):
        build(INFOS[name], no_such_option=1)


@pytest.mark.parametrize("name", TINY)
def test_tiny_is_tiny(name: str) -> None:
    assert sum(parameter.numel() for parameter in build(INFOS[name]).parameters()) < 3_000_000


@pytest.mark.parametrize("name", TINY)
def test_prediction_at_odd_size(name: str) -> None:
    check_prediction_at_odd_size(INFOS[name])


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    check_gradients(INFOS[name])


@pytest.mark.parametrize("name", TINY)
def test_state_round_trip_and_determinism(name: str, tmp_path) -> None:
    check_state_round_trip(INFOS[name], tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", TINY)
def test_bf16_step(name: str) -> None:
    check_bf16_step(INFOS[name])


@pytest.mark.parametrize("name", TINY)
def test_export(name: str) -> None:
    check_export(INFOS[name])


@pytest.mark.parametrize("name", TINY)
def test_ten_steps_lower_the_loss(name: str) -> None:
    check_ten_steps_lower_the_loss(INFOS[name])


@pytest.mark.parametrize("name", TINY)
def test_backbone_parameters_are_a_part(name: str) -> None:
    check_backbone_parameters(INFOS[name])


def test_an_architecture_is_one_file(tmp_path, monkeypatch) -> None:
    """A new file is listed and passes every check, with no other file touched."""
    source = """
        from torch import nn
        from segbench.models import SemanticModel, register_model

        class Toy(SemanticModel):
            def __init__(self, num_classes):
                super().__init__(num_classes)
                self.classifier = nn.Conv2d(3, num_classes, 3, padding=1)

            def forward(self, images):
                return {"logits": self.classifier(images)}

        @register_model("toy_linear", task="semantic", paper="A toy", year=2026,
                        display_name="Toy", size="tiny")
        def toy_linear(num_classes):
            return Toy(num_classes)
    """
    (tmp_path / "toy_of_a_test.py").write_text(textwrap.dedent(source))
    assert "toy_linear" not in model_infos()
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    info = model_infos()["toy_linear"]
    assert info.family == "toy_of_a_test"
    check_prediction_at_odd_size(info)
    check_gradients(info)
    check_bf16_step(info)
    check_export(info)
    check_state_round_trip(info, tmp_path / "weights.safetensors")
    check_ten_steps_lower_the_loss(info)
    check_backbone_parameters(info)
