"""Published classifiers as files, in the networks that are built from their layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from segbench.core.errors import DataError
from segbench.layers.vgg import vgg16_stages
from segbench.models import backbones
from segbench.models.backbones import create_backbone
from segbench.models.deeplab_v2 import DilatedVGG16
from segbench.models.fcn import FullyConvolutionalVGG16
from segbench.models.hrnet import hrnet
from segbench.models.parts import hrnet_weights as _hrnet_weights
from segbench.models.parts import vgg_weights as _vgg
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import create_model

VGG = ("vgg16", "vgg16_bn")


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Return torchvision's VGG-16 with random weights, and the file of them."""
    torch.manual_seed(0)
    network = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    file = tmp_path_factory.mktemp("vgg16") / "vgg16.safetensors"
    save_file(network.state_dict(), file)
    return network, file


@torch.no_grad()
def test_fully_convolutional_vgg16_computes_what_the_classifier_does(vgg16) -> None:
    """On one window of 224 pixels, with the classifier's padding in place of FCN's 100."""
    network, file = vgg16
    convolutional = FullyConvolutionalVGG16(weights=str(file)).eval()
    first = convolutional.stages[0][0]
    assert isinstance(first, nn.Conv2d)
    first.padding = (1, 1)
    images = torch.rand(1, 3, 224, 224)
    found = convolutional(images)
    pooled = network.features(images)
    expected = network.classifier[:5](pooled.flatten(1))
    torch.testing.assert_close(found["fc7"].flatten(1), expected)
    torch.testing.assert_close(found["pool4"], network.features[:24](images))


@torch.no_grad()
def test_dilated_vgg16_has_the_features_of_the_classifier_before_its_own_pooling(vgg16) -> None:
    network, file = vgg16
    dilated = DilatedVGG16(weights=str(file)).eval()
    images = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(dilated.features[:2](images), network.features[:4](images))
    convs = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    own = [layer for layer in dilated.modules() if isinstance(layer, nn.Conv2d)]
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(own, convs, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("name", VGG)
def test_encoder_with_batch_norm_takes_both_classifiers(name: str, vgg16, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network, file = vgg16
    if name == "vgg16_bn":
        network = torchvision.models.vgg16_bn(weights=None, init_weights=False)
        for layer in network.features:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-1, 1)
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 2)
        file = tmp_path / "vgg16_bn.safetensors"
        save_file(network.state_dict(), file)
    encoder = vgg16_stages(norm=True)
    fill_vgg16(str(file), encoder)
    encoder.eval()
    network.eval()
    images = torch.rand(1, 3, 32, 32)
    features = images
    for stage in encoder:
        features = torch.max_pool2d(stage(features), 2)
    if name == "vgg16":  # BatchNorm at its start divides by sqrt(1 + eps)
        torch.testing.assert_close(features, network.features(images), rtol=1e-3, atol=1e-4)
    else:
        torch.testing.assert_close(features, network.features(images))


@pytest.mark.parametrize(
    ("model", "name", "layers"),
    [
        ("segnet", "vgg16_bn", 26),
        ("segnet", "vgg16", 13),
        ("deconvnet", "vgg16_bn", 28),
        ("deconvnet", "vgg16", 15),
        ("decouplednet", "vgg16", 15),
        ("dilation8", "vgg16", 15),
        ("dilation10", "vgg16", 15),
        ("deeplab_v1_vgg16", "vgg16", 13),
        ("deeplab_v2_vgg16", "vgg16", 13),
        ("fcn_8s", "vgg16", 15),
        ("crf_rnn", "vgg16", 15),
    ],
)
def test_every_network_built_from_vgg16_is_filled(
    model: str, name: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[tuple[nn.Module, dict[str, torch.Tensor]]] = []
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
        monkeypatch.setattr(_vgg, "classifier_state", lambda *names, weights: state)
        monkeypatch.setattr(_vgg, "_fill", lambda layer, part: filled.append((layer, part)))
        create_model(model, 21, backbone_weights="vgg.safetensors")
    assert len(filled) == layers
    for layer, part in filled:
        own = layer.state_dict()
        assert {k: v.numel() for k, v in part.items()} == {k: v.numel() for k, v in own.items()}


def test_files_of_torchvision_are_read_as_they_are_published(tmp_path: Path) -> None:
    network = torchvision.models.resnet18(weights=None)
    file = tmp_path / "resnet18.pth"
    torch.save(network.state_dict(), file)
    backbone = create_backbone("resnet18", weights=str(file))
    assert torch.equal(backbone.state_dict()["conv1.weight"], network.conv1.weight)


class Harm:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"conv1.weight": Harm()}, "cannot be read without running code"),
        ({"model": {"conv1.weight": torch.zeros(1)}}, "expected tensors by name"),
        ([torch.zeros(1)], "expected tensors by name"),
    ],
)
def test_pickles_of_anything_else_are_refused(content, words, tmp_path: Path, capsys) -> None:
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    with pytest.raises(DataError, match=words):
        create_backbone("resnet18", weights=str(file))
    file.write_bytes(b"no file of torch")
    with pytest.raises(DataError, match="cannot be read"):
        create_backbone("resnet18", weights=str(file))
    assert "never run" not in capsys.readouterr().out


def test_files_of_other_networks_are_refused(tmp_path: Path, vgg16) -> None:
    network, _ = vgg16
    file = tmp_path / "other.safetensors"
    save_file({k: v for k, v in network.state_dict().items() if k != "features.0.bias"}, file)
    with pytest.raises(DataError, match=r"'features\.0\.bias' is missing"):
        fill_vgg16(str(file), vgg16_stages())
    save_file({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=r"'conv1\.weight' is missing|'conv1\.weight' should"):
        hrnet(18, weights=str(file))


@torch.no_grad()
def test_hrnet_computes_what_timms_does(tmp_path: Path) -> None:
    """But for the enlargement of coarser branches, which is bilinear here and nearest there."""
    torch.manual_seed(0)
    classifier = timm.create_model("hrnet_w18").eval()
    for module in classifier.modules():
        if isinstance(module, nn.Upsample):
            module.mode, module.align_corners = "bilinear", False
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    file = tmp_path / "hrnet.safetensors"
    save_file(classifier.state_dict(), file)
    network = hrnet(18, weights=str(file)).eval()
    images = torch.rand(1, 3, 64, 64)
    features = classifier.act1(classifier.bn1(classifier.conv1(images)))
    features = classifier.act2(classifier.bn2(classifier.conv2(features)))
    branches = classifier.stages(features)
    size = branches[0].shape[-2:]
    wanted = [nn.functional.interpolate(b, size, mode="bilinear") for b in branches]
    torch.testing.assert_close(network(images), torch.cat(wanted, dim=1))


@torch.no_grad()
@pytest.mark.parametrize(("name", "theirs"), [("_v1c", "resnet50c"), ("_v1s", "resnet50s")])
def test_resnet_with_a_deep_stem_takes_timms_weights(name, theirs, monkeypatch) -> None:
    torch.manual_seed(0)
    network = timm.create_model(theirs).eval()
    asked = []

    def create(tag, pretrained=False):
        asked.append((tag, pretrained))
        return network

    monkeypatch.setattr(backbones.timm, "create_model", create)
    backbone = create_backbone(f"resnet50{name}", weights="imagenet").eval()
    assert asked == [(f"{theirs}.gluon_in1k", True)]
    images = torch.rand(1, 3, 64, 64)
    found = backbone(images)["stride32"]
    torch.testing.assert_close(found, network.forward_features(images))


def test_imagenet_weights_of_hrnet_come_from_timm(monkeypatch) -> None:
    network = timm.create_model("hrnet_w18")
    monkeypatch.setattr(_hrnet_weights, "timm_state", lambda name: network.state_dict())
    first = hrnet(18, weights="imagenet").stem[0][0]
    assert torch.equal(first.weight, network.conv1.weight)
