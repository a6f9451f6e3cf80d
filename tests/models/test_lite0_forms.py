"""Heads of several papers on EfficientNet-Lite0, the one network whose weights are at hand."""

from __future__ import annotations

import pytest
import torch

from segbench.models.registry import create_model, model_infos

ON_TINY_NETWORK = ("pspnet", "deeplab_v2", "deeplab_v3", "encnet")
SUMMED = ("fcn", "dilation")
CLASSES, TRUNK = 5, 2_958_848


def on_meta(family: str) -> torch.nn.Module:
    with torch.device("meta"):
        model: torch.nn.Module = create_model(f"{family}_efficientnet_lite0", CLASSES)
    return model


def parameters(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("family", ON_TINY_NETWORK + SUMMED)
def test_only_the_trunk_is_pretrained_and_the_map_has_the_images_size(family: str) -> None:
    model = on_meta(family).train()
    assert parameters(model.backbone_parameters()) == TRUNK < parameters(model.parameters())
    logits = model(torch.empty(2, 3, 97, 61, device="meta"))["logits"]
    assert logits.shape == (2, CLASSES, 97, 61)


@pytest.mark.parametrize("family", ON_TINY_NETWORK)
def test_head_reads_stride_16_and_scores_of_8_and_4_are_added(family: str) -> None:
    model = on_meta(family)
    assert model.deepest == "stride16"
    assert list(model.fine) == ["stride8", "stride4"]


@pytest.mark.parametrize("family", SUMMED)
def test_scores_of_every_stride_are_summed(family: str) -> None:
    assert list(on_meta(family).scores) == [f"stride{2**i}" for i in range(1, 6)]


def test_every_lite0_form_takes_weights() -> None:
    infos = model_infos().values()
    on_lite0 = [i.id for i in infos if (i.task, i.backbone) == ("semantic", "efficientnet_lite0")]
    assert {f"{family}_efficientnet_lite0" for family in ON_TINY_NETWORK + SUMMED} <= set(on_lite0)
    for name in on_lite0:
        with torch.device("meta"):
            create_model(name, CLASSES, backbone_weights="none")
