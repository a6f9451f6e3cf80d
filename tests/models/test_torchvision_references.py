"""torchvision's networks under our contract, and our DeepLab v3 against theirs."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from segbench.models.profiling.costs import count_macs, count_parameters
from segbench.models.registry import create_model

PUBLISHED = {
    "fcn_resnet50": (35_322_218, 152.717),
    "fcn_resnet101": (54_314_346, 232.738),
    "deeplabv3_resnet50": (42_004_074, 178.722),
    "deeplabv3_mobilenet_v3_large": (11_029_328, 10.452),
    "lraspp_mobilenet_v3_large": (3_221_538, 2.086),
}
"""Parameters at 21 classes and GMACs at 520x520."""


def with_random_statistics(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation statistics and scales of its own."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.1),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_macs(name: str) -> None:
    with torch.device("meta"):
        model = create_model(f"torchvision_{name}", 21)
    parameters, gmacs = PUBLISHED[name]
    assert count_parameters(model)["params"] == parameters
    assert count_macs(model, (520, 520)) / 1e9 == pytest.approx(gmacs, abs=5e-4)


def test_without_the_auxiliary_head() -> None:
    with torch.device("meta"):
        model = create_model("torchvision_fcn_resnet50", 21, aux=False)
    assert count_parameters(model)["params"] == 32_957_013


@pytest.mark.parametrize("name", ["fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_contract(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(f"torchvision_{name}", 5).eval()
    images = torch.randn(1, 3, 65, 49)
    with torch.inference_mode():
        outputs = model(images)
        expected = model.network(images)
    assert outputs["logits"].shape == (1, 5, 65, 49)
    assert torch.equal(outputs["logits"], expected["out"])
    assert ("aux" in outputs) == ("aux" in expected) == (name == "fcn_resnet50")
    (prediction,) = model.predict(outputs, [(65, 49)])
    assert prediction.semantic.shape == (65, 49)
    listed = {id(parameter) for parameter in model.backbone_parameters()}
    own = {id(parameter) for parameter in model.parameters()}
    assert listed == {id(p) for p in model.network.backbone.parameters()} and listed < own


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("fcn_resnet50", "resnet50"),
        ("lraspp_mobilenet_v3_large", "mobilenet_v3_large"),
    ],
)
def test_backbone_weights_from_a_file(name: str, classifier: str, tmp_path) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model(classifier, weights=None)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    model = create_model(
        f"torchvision_{name}", 5, backbone_weights=str(tmp_path / "weights.safetensors")
    )
    source = {key.removeprefix("features."): t for key, t in whole.state_dict().items()}
    taken = model.backbone.state_dict()
    assert taken
    assert all(torch.equal(tensor, source[key]) for key, tensor in taken.items())


def test_our_deeplab_v3_equals_torchvisions() -> None:
    """Both list the same layers in the same order; with equal weights they agree to 1e-5."""
    torch.manual_seed(0)
    theirs = with_random_statistics(
        torchvision.models.segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=21, aux_loss=True
        )
    )
    ours = create_model("deeplab_v3_resnet50", 21).eval()
    pairs = list(zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True))
    for (name, mine), (other, yours) in pairs:
        assert mine.shape == yours.shape, (name, other)
        assert name.rpartition(".")[2] == other.rpartition(".")[2], (name, other)
    ours.load_state_dict({name: tensor for (name, _), (_, tensor) in pairs})
    images = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        mine, expected = ours(images), theirs(images)
    scale = expected["out"].abs().max()
    assert scale > 1e-3
    assert (mine["logits"] - expected["out"]).abs().max() <= 1e-5 * max(1.0, float(scale))
    aux = torch.nn.functional.interpolate(mine["aux"][0], size=(97, 65), mode="bilinear")
    assert (aux - expected["aux"]).abs().max() <= 1e-5 * max(
        1.0, float(expected["aux"].abs().max())
    )
