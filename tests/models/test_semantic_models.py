"""Structure of the semantic architectures, against their papers and closed forms."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from segbench.core.errors import ConfigError
from segbench.layers.aspp import ASPP
from segbench.layers.bilinear import bilinear_kernel, bilinear_upsampling, linear_as_convolution
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models.bases.semantic import SemanticModel
from segbench.models.fcn import FullyConvolutionalVGG16
from segbench.models.patch_classifier import PatchClassifier, TinyClassifier, fully_convolutional
from segbench.models.registry import create_model
from segbench.models.unet import UNet, _mirror

COUNTS = [
    ("fcn_32s", 21, {}, 136_152_917),
    ("fcn_16s", 21, {}, 134_815_994),
    ("fcn_8s", 21, {}, 134_489_759),
    ("fcn_32s", 60, {}, 149_251_964),
    ("fcn_16s", 60, {}, 138_281_144),
    ("fcn_8s", 60, {}, 135_589_364),
    ("unet", 2, {"in_channels": 1}, 31_036_546),
    ("unet", 2, {}, 31_037_698),
    ("unet", 19, {}, 31_038_803),
    ("unet", 21, {}, 31_038_933),
    ("unet_original", 2, {"in_channels": 1}, 31_030_658),
    ("deeplab_v3plus_resnet50", 21, {}, 26_682_725),
    ("deeplab_v3plus_resnet101", 21, {}, 45_674_853),
    ("semantic_fpn_resnet50", 54, {}, 28_430_070),
    # torchvision's published counts less 979 rows of the 1000-class layer
    ("patch_classifier_vgg16", 21, {}, 138_357_544 - 979 * 4097),
    ("patch_classifier_resnet18", 21, {}, 11_689_512 - 979 * 513),
]


@pytest.mark.parametrize(("name", "num_classes", "options", "expected"), COUNTS)
def test_published_parameter_count(name, num_classes, options, expected) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("fcn_32s", 64**2), ("fcn_16s", 4**2 + 32**2), ("fcn_8s", 4**2 + 4**2 + 16**2)],
)
def test_fcn_upsamplers_are_fixed(name, fixed) -> None:
    with torch.device("meta"):
        model = create_model(name, 21)
    held = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert held == 21 * 21 * fixed


@pytest.mark.parametrize("name", ["fcn_32s", "fcn_16s", "fcn_8s", "fcn_8s_at_once"])
@pytest.mark.parametrize("size", [(1, 1), (65, 97), (375, 500), (512, 31)])
def test_fcn_crops_cover_every_size(name, size) -> None:
    with torch.device("meta"):
        model = create_model(name, 21)
        logits = model(torch.empty(1, 3, *size))["logits"]
    assert logits.shape == (1, 21, *size)


def test_fcn_features_have_the_sizes_of_the_caffe_definition() -> None:
    """500 pixels: 698 after the first padded layer, pools round up, fc7 is 16 x 16."""
    with torch.device("meta"):
        features = FullyConvolutionalVGG16()(torch.empty(1, 3, 500, 500))
    assert features["pool3"].shape == (1, 256, 88, 88)
    assert features["pool4"].shape == (1, 512, 44, 44)
    assert features["fc7"].shape == (1, 4096, 16, 16)


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_bilinear_upsampling_is_bilinear_interpolation(factor) -> None:
    """Away from the border it equals PyTorch's interpolation of the same factor."""
    maps = torch.randn(2, 3, 6, 7)
    layer = bilinear_upsampling(3, factor=factor)
    found = layer(maps)
    margin = factor // 2
    found = found[..., margin : margin + 6 * factor, margin : margin + 7 * factor]
    expected = functional.interpolate(maps, scale_factor=factor, mode="bilinear")
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [3, 4, 16])
def test_bilinear_kernel_keeps_constants(size) -> None:
    factor = (size + 1) // 2
    kernel = bilinear_kernel(size)
    for row in range(factor):
        for column in range(factor):
            assert float(kernel[row::factor, column::factor].sum()) == pytest.approx(1)


def test_linear_as_convolution_equals_the_linear_layer() -> None:
    linear = torch.nn.Linear(5 * 9, 4)
    windows = torch.randn(7, 5, 3, 3)
    expected = linear(windows.flatten(1))
    found = linear_as_convolution(linear, kernel=3)(windows)[..., 0, 0]
    torch.testing.assert_close(found, expected)


def test_unet_original_valid_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        model = create_model("unet_original", 2, in_channels=1)
        assert model.score(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_unet_original_tiles_agree_with_the_whole_image() -> None:
    """Overlap-tile: what a tile predicts does not depend on what lies outside its input."""
    torch.manual_seed(0)
    model = create_model("unet_original", 2, in_channels=1).eval()
    image = torch.randn(1, 1, 220, 204)
    with torch.no_grad():
        whole = model.score(image)
        tile = model.score(image[..., 16:, :])
    torch.testing.assert_close(tile, whole[..., 16:, :], rtol=1e-3, atol=1e-4)


def test_unet_original_predicts_the_same_in_mirrored_overlapping_tiles() -> None:
    torch.manual_seed(0)
    whole = create_model("unet_original", 2, in_channels=1).eval()
    tiled = create_model("unet_original", 2, in_channels=1, tile=36).eval()
    tiled.load_state_dict(whole.state_dict())
    scored = []
    tiled.score = lambda window: scored.append(tuple(window.shape[2:])) or UNet.score(tiled, window)
    images = torch.randn(1, 1, 45, 30)
    with torch.no_grad():
        torch.testing.assert_close(
            tiled(images)["logits"], whole(images)["logits"], rtol=1e-3, atol=1e-4
        )
    assert scored == [(220, 220), (204, 220)], "two tiles, each with a margin of 92 pixels"


def test_unet_tiles_off_the_pooling_grid_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="4 above a multiple of 16"):
        create_model("unet_original", 2, tile=384)


@pytest.mark.parametrize("size", [(1, 5), (7, 30), (100, 388)])
def test_unet_mirror_is_numpys_reflection(size) -> None:
    image = torch.randn(1, 2, *size)
    found = _mirror(image).numpy()
    margins = [(92, found.shape[axis] - image.shape[axis] - 92) for axis in (2, 3)]
    expected = np.pad(image.numpy(), [(0, 0), (0, 0), *margins], mode="reflect")
    np.testing.assert_array_equal(found, expected)
    for side, wanted in zip(found.shape[2:], size, strict=True):
        assert (side - 12) % 16 == 0 and side >= wanted + 184


def test_patch_grid_equals_the_converted_network() -> None:
    """Sliding windows inside the image = the same weights as convolutions on the image."""
    torch.manual_seed(0)
    classifier = TinyClassifier(5).eval()
    stride = TinyClassifier.STRIDE
    model = PatchClassifier(classifier, 5, window=TinyClassifier.WINDOW, stride=stride).eval()
    images = torch.randn(2, 3, 76, 90)
    with torch.no_grad():
        windows = model.classify_grid(images)
        dense = fully_convolutional(classifier)(images)
    assert windows.shape == (2, 5, 5, 7)
    torch.testing.assert_close(windows, dense, rtol=1e-4, atol=1e-5)


def test_patch_cost_grows_with_the_number_of_windows() -> None:
    seen = []
    model = create_model("patch_classifier_tiny", 3, stride=4).eval()
    model.classifier.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.no_grad():
        model(torch.zeros(1, 3, 30, 41))
    assert sum(seen) == 8 * 11


@pytest.mark.parametrize("stride", [1, 3, 4])
def test_patch_windows_are_centred(stride) -> None:
    """A classifier that reads the centre pixel gives the image back at the grid points."""

    class Centre(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return windows[:, :, 3, 3]

    model = PatchClassifier(Centre(), 3, window=7, stride=stride)
    images = torch.rand(1, 3, 13, 10)
    grid = model.eval().classify_grid(model._pad(images)[..., stride // 2 :, stride // 2 :])
    expected = images[..., stride // 2 :: stride, stride // 2 :: stride]
    rows, columns = expected.shape[-2:]
    assert torch.equal(grid[..., :rows, :columns], expected)
    outputs = model.train()(images)
    picked = images[0].permute(1, 2, 0)[tuple(outputs["centres"][0].T)]
    assert torch.equal(outputs["window_logits"][0], picked)


def test_patch_training_loss_reads_the_labels_of_the_centres() -> None:
    model = create_model("patch_classifier_tiny", 3).train()
    semantic = torch.randint(0, 3, (2, 20, 30))
    outputs = model(torch.randn(2, 3, 20, 30))
    labels = torch.stack([s[tuple(c.T)] for s, c in zip(semantic, outputs["centres"], strict=True)])
    expected = functional.cross_entropy(outputs["window_logits"].flatten(0, 1), labels.flatten())
    found = model.loss(outputs, SimpleNamespace(semantic=semantic))["cross_entropy"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_trunk_strides_and_widths(output_stride) -> None:
    trunk = ResidualTrunk(16, output_stride=output_stride)
    features = trunk(torch.randn(2, 3, 45, 70))
    assert list(features) == list(trunk.channels)
    assert max(int(name.removeprefix("stride")) for name in features) == output_stride
    for name, maps in features.items():
        stride = int(name.removeprefix("stride"))
        assert maps.shape == (2, trunk.channels[name], -(-45 // stride), -(-70 // stride))


@pytest.mark.parametrize(("output_stride", "dilations"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_deeplab_pyramid_has_the_papers_dilations(output_stride, dilations) -> None:
    with torch.device("meta"):
        model = create_model("deeplab_v3plus_resnet50", 21, output_stride=output_stride).eval()
        shapes = []
        model.head.pyramid.register_forward_hook(lambda _, __, maps: shapes.append(maps.shape))
        assert model(torch.empty(1, 3, 257, 193))["logits"].shape == (1, 21, 257, 193)
    depthwise = [m for m in model.head.pyramid[0].modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.dilation[0] for m in depthwise if m.groups > 1] == dilations
    assert shapes == [(1, 256, -(-257 // output_stride), -(-193 // output_stride))]


def test_aspp_image_pooling_sees_the_whole_map() -> None:
    """With every convolution branch silenced the result is one vector at all positions."""
    torch.manual_seed(0)
    aspp = ASPP(6, 4, dilations=(1, 2)).eval()
    for branch in list(aspp.branches)[:-1]:
        branch.register_forward_hook(lambda _, __, maps: torch.zeros_like(maps))
    features = torch.randn(1, 6, 5, 7)
    with torch.no_grad():
        first = aspp(features)
        shuffled = aspp(features.flatten(2)[..., torch.randperm(35)].view_as(features))
    torch.testing.assert_close(first, first[..., :1, :1].expand_as(first))
    torch.testing.assert_close(first, shuffled)


class Identity(SemanticModel):
    """Images are logits."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": images, "aux": [images[..., ::2, ::2]]}


def test_semantic_loss_is_zero_with_a_graph_when_all_is_ignored() -> None:
    model = Identity(4)
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    losses = model.loss(model(logits), SimpleNamespace(semantic=torch.full((2, 8, 8), 255)))
    assert {name: loss.item() for name, loss in losses.items()} == {"cross_entropy": 0, "aux": 0}
    sum(losses.values()).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_semantic_loss_weighs_classes_and_the_auxiliary_map() -> None:
    model = Identity(3, aux_weight=0.25)
    model.class_weights = torch.tensor([1.0, 2.0, 0.5])
    logits, semantic = torch.randn(1, 3, 6, 6), torch.randint(0, 3, (1, 6, 6))
    losses = model.loss(model(logits), SimpleNamespace(semantic=semantic))
    expected = functional.cross_entropy(logits, semantic, model.class_weights)
    torch.testing.assert_close(losses["cross_entropy"], expected)
    resized = functional.interpolate(logits[..., ::2, ::2], (6, 6), mode="bilinear")
    expected = 0.25 * functional.cross_entropy(resized, semantic, model.class_weights)
    torch.testing.assert_close(losses["aux"], expected)
    assert "class_weights" not in model.state_dict()


def test_semantic_prediction_resizes_logits_before_the_argmax() -> None:
    logits = torch.tensor([[[[4.0, 0.0]], [[0.0, 1.0]]]])
    (prediction,) = Identity(2).predict({"logits": logits}, [(1, 8)])
    expected = functional.interpolate(logits, (1, 8), mode="bilinear")[0].argmax(0)
    np.testing.assert_array_equal(prediction.semantic, expected)
    assert prediction.semantic.sum() == 3, "labels resized after the argmax would give 4"


def test_semantic_model_refuses_what_it_cannot_learn_from() -> None:
    with pytest.raises(ConfigError, match="num_classes"):
        Identity(1)
    with pytest.raises(ConfigError, match="semantic"):
        Identity(2).loss({}, SimpleNamespace(semantic=None))


@pytest.mark.parametrize("name", ["enet", "erfnet"])
@torch.no_grad()
def test_encoder_alone_is_the_first_stage_of_the_whole(name) -> None:
    """Its parameters have the names of the whole network's; its scores are those at stride 8."""
    torch.manual_seed(0)
    whole, encoder = create_model(name, 5), create_model(name, 5, encoder_only=True).eval()
    own, all_of_it = encoder.state_dict(), whole.state_dict()
    added = {key for key in own if key not in all_of_it}
    assert added == (
        {f"encoder_classifier.{k}" for k in ("weight", "bias")} if name == "enet" else set()
    )
    assert not any(key.startswith(("decoder", "stage4", "up4", "classifier")) for key in own)
    images = torch.randn(2, 3, 67, 96)
    assert encoder(images)["logits"].shape == (2, 5, 67, 96)
    encoder.load_state_dict({**own, **{k: all_of_it[k] for k in own if k not in added}})
    if name == "erfnet":
        auxiliary = whole.encoder_classifier(whole.eval().encoder(images))
        found = functional.interpolate(auxiliary, (67, 96), mode="bilinear")
        torch.testing.assert_close(encoder(images)["logits"], found)


def test_front_end_of_dilation_is_the_whole_without_its_context() -> None:
    with torch.device("meta"):
        whole, front_end = (
            create_model("dilation10", 19),
            create_model("dilation10", 19, context=False),
        )
        assert front_end(torch.empty(1, 3, 65, 97))["logits"].shape == (1, 19, 65, 97)
    assert list(front_end.state_dict()) == [
        name for name in whole.state_dict() if not name.startswith("context")
    ]
