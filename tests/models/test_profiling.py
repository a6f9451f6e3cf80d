from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet50
from torchvision.ops import DeformConv2d

from segbench.models.profiling.costs import count_macs, count_parameters, profile_model
from tests.training.conftest import _toy_models, model_folder

__all__ = ["_toy_models", "model_folder"]


def test_multiply_adds_equal_the_published_figure() -> None:
    with torch.device("meta"):
        model = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    assert count_macs(model, (520, 520)) / 1e9 == pytest.approx(152.717, abs=5e-4)
    assert count_parameters(model)["params"] == 35_322_218


def test_convolution_has_the_count_of_its_formula() -> None:
    model = nn.Conv2d(3, 10, (3, 5), stride=2, padding=1, bias=True)
    assert count_macs(model, (20, 31)) == 10 * 3 * 15 * 10 * 15


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = DeformConv2d(3, 6, 3, groups=3)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2] - 2, images.shape[-1] - 2
        return self.convolution(images, images.new_zeros((1, 18, height, width)))


def test_deformable_convolution_counts_like_a_plain_one() -> None:
    plain = count_macs(nn.Conv2d(3, 6, 3, groups=3), (10, 12))
    assert count_macs(Deformable(), (10, 12)) == plain == 6 * 1 * 9 * 8 * 10


class NeedsData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(images) if float(images.sum()) != 0.123 else images


def test_data_dependent_network_is_counted_on_the_cpu() -> None:
    assert count_macs(NeedsData(), (6, 7)) == 3 * 4 * 6 * 7


def test_trainable_parameters_are_told_apart() -> None:
    model = nn.Linear(3, 4)
    model.bias.requires_grad_(False)
    assert count_parameters(model) == {"params": 16, "params_trainable": 12}


def test_quick_profile_measures_nothing() -> None:
    result = profile_model("toy", (4,), input_size=(16, 24), full=False, threads=1)
    assert result["params"] == (27 * 8 + 8) + 16 + (8 * 4 + 4)
    assert result["gmacs"] == round(16 * 24 * (27 * 8 + 8 * 4) / 1e9, 4)
    assert (result["input_size"], result["latency_ms"]) == ([16, 24], None)


def test_full_profile_has_every_key() -> None:
    result = profile_model("toy", (4,), input_size=(64, 64), device="cpu", threads=1)
    assert 0 < result["latency_ms"] < 1000
    assert result["images_per_second"] == pytest.approx(1000 / result["latency_ms"], rel=0.05)
    assert result["peak_memory_mb"] >= 0
    assert (result["threads"], result["precision"]) == (1, "float32")
    assert result["device"]


def test_panoptic_models_are_counted_up_to_their_prediction() -> None:
    result = profile_model("toy_panoptic", (2, 2), input_size=(16, 16), full=False)
    assert (result["params"], result["gmacs"]) == (1, 0)
