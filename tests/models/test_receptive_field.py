"""Receptive fields against closed forms and against where gradients come from."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from torch import nn
from torch.nn import functional

from segbench.cli import cli
from segbench.layers.pyramid_pooling import PyramidPooling
from segbench.layers.unpool import max_pool_with_places, max_unpool
from segbench.models.dilation import ContextModule
from segbench.models.profiling.receptive_field import receptive_fields
from segbench.models.profiling.stages import builder_options, describe_model, stage_names
from segbench.models.registry import create_model, model_info
from segbench.models.unet import _mirror


def meta(build, *args, **options) -> nn.Module:
    with torch.device("meta"):
        return build(*args, **options)


def fields(model: nn.Module, *names: str, channels: int = 3) -> list:
    found = receptive_fields(model, names, channels=channels)
    return [(found[name].stride[0], found[name].field[0]) for name in names]


def test_vgg16_and_fcn() -> None:
    model = meta(create_model, "fcn_32s", 21)
    stages = [f"backbone.stages.{i}" for i in range(5)]
    assert fields(model, *stages, "backbone.fc7") == [
        (2, 6), (4, 16), (8, 44), (16, 100), (32, 212), (32, 404),
    ]  # fmt: skip
    first = receptive_fields(model, ["backbone.stages.0"])["backbone.stages.0"]
    assert first.offset == (-98.5, -98.5), "100 pixels of padding; the field is 6 wide"


def test_basic_context_module() -> None:
    module = meta(ContextModule, 21, dilations=(1, 1, 2, 4, 8, 16, 1))
    sides = [3, 5, 9, 17, 33, 65, 67, 67]
    layers = [str(2 * i) for i in range(8)]
    assert fields(module, *layers, channels=21) == [(1, side) for side in sides]


def test_resnet50_with_the_stride_in_either_place() -> None:
    layers = ("maxpool", "layer1", "layer2", "layer3", "layer4")
    model = meta(torchvision.models.resnet50)
    assert fields(model, *layers) == [(4, 11), (4, 35), (8, 91), (16, 267), (32, 427)]
    for name, module in model.named_modules():
        if name.endswith(".0.conv2") and module.stride == (2, 2):
            module.stride = (1, 1)
            model.get_submodule(name.replace("conv2", "conv1")).stride = (2, 2)
    assert fields(model, *layers) == [(4, 11), (4, 35), (8, 99), (16, 291), (32, 483)]


class Skips(nn.Module):
    """A bit of everything: ceil pooling, dilation, unpooling, resizing, crops, mirrored borders."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=2)
        self.down = nn.Conv2d(4, 4, (3, 1), stride=2, padding=(1, 0), dilation=(2, 1))
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 2, 3)

    def forward(self, images):
        features = self.first(_mirrored(images))
        pooled, places, size = max_pool_with_places(features)
        fine = max_unpool(pooled, places, size)
        coarse = self.up(self.down(functional.avg_pool2d(pooled, 3, 2, 1, ceil_mode=True)))
        coarse = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
        joined = torch.stack([torch.cat([fine, coarse], 1), torch.cat([coarse, fine], 1)]).sum(0)
        return self.last(functional.pad(joined, (1, -2, 0, 3)))


def _mirrored(images):
    place = (torch.arange(images.shape[-1] + 6, device=images.device) - 3).abs()
    last = images.shape[-1] - 1
    return images.index_select(-1, torch.minimum(place, 2 * last - place))


NETS = {
    "ceil": lambda: nn.Sequential(
        nn.Conv2d(3, 2, 3, padding=1), nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(2, 2, 3)
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=2), nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1),
        nn.Conv2d(2, 2, 3, dilation=3),
    ),
    "asymmetric": lambda: nn.Sequential(
        nn.Conv2d(3, 2, (5, 1)), nn.Conv2d(2, 2, (1, 3), stride=(1, 2))
    ),
    "nearest": lambda: nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=3), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)
    ),
    "bilinear": lambda: nn.Sequential(
        nn.Conv2d(3, 2, 5, stride=4), nn.Upsample(scale_factor=4, mode="bilinear"),
        nn.ReflectionPad2d(2), nn.Conv2d(2, 2, 3),
    ),
    "skips": Skips,
}  # fmt: skip


def reach(model: nn.Module, side: int, axis: int) -> int:
    """Return the largest extent of gradients over the output positions of the middle line."""
    extents = {}
    for seed in range(12):  # max-pooling passes the gradient of one pixel of its window alone
        torch.manual_seed(seed)
        images = torch.randn(1, 3, side, side, requires_grad=True)
        output = model(images).abs().sum(1)[0]
        line = output.select(1 - axis, output.shape[1 - axis] // 2)
        for place in range(len(line)):
            (gradient,) = torch.autograd.grad(line[place], images, retain_graph=True)
            seen = torch.nonzero(gradient[0].sum(0).abs().sum(1 - axis)).flatten()
            if len(seen):
                low, high = extents.get(place, (side, 0))
                extents[place] = min(low, int(seen[0])), max(high, int(seen[-1]))
    return max(high - low + 1 for low, high in extents.values())


@pytest.mark.parametrize("name", NETS)
def test_fields_are_where_gradients_come_from(name) -> None:
    torch.manual_seed(0)
    model = NETS[name]()
    (found,) = receptive_fields(model.to("meta"), [""]).values()
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    for axis in (0, 1):
        assert found.field[axis] == reach(model, 48, axis)


def test_offset_is_the_centre_of_the_first_position() -> None:
    first, last = nn.Conv2d(3, 1, 7, stride=2, padding=3), nn.Conv2d(1, 1, 3)
    model = nn.Sequential(first, nn.AvgPool2d(2), last)
    (found,) = receptive_fields(model, [""]).values()
    images = torch.zeros(1, 3, 65, 65, requires_grad=True)
    for layer in (first, last):
        nn.init.ones_(layer.weight)
    (gradient,) = torch.autograd.grad(model(images)[0, 0, 5, 5], images)
    rows = torch.nonzero(gradient[0, 0].sum(1)).flatten()
    assert (rows[0] + rows[-1]).item() / 2 == found.offset[0] + 5 * found.stride[0]


def test_what_grows_with_the_image_has_no_field() -> None:
    for module in (PyramidPooling(4), nn.AdaptiveAvgPool2d(1)):
        (found,) = receptive_fields(nn.Sequential(nn.Conv2d(3, 4, 3), module), [""]).values()
        assert found.field == (None, None)


def test_positions_that_were_mixed_have_no_stride_until_they_join_others() -> None:
    class Attention(nn.Module):
        def forward(self, features):
            flat = features.flatten(2)
            mixed = (flat @ flat.transpose(1, 2).softmax(2) @ flat).unflatten(2, features.shape[2:])
            return self.alone(mixed), self.beside(torch.cat([mixed, features], 1))

        def __init__(self) -> None:
            super().__init__()
            self.alone, self.beside = nn.Conv2d(2, 2, 1), nn.Conv2d(4, 2, 1)

    model = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2), Attention())
    found = receptive_fields(model, ["1.alone", "1.beside"])
    assert [stage.stride[0] for stage in found.values()] == [None, 2]
    assert {stage.field for stage in found.values()} == {(None, None)}


def test_mirrored_network_of_the_unet_keeps_the_field_of_the_bare_one() -> None:
    (found,) = receptive_fields(meta(create_model, "unet_original", 2), [""]).values()
    (padded,) = receptive_fields(meta(create_model, "unet", 2), [""]).values()
    assert found.field == padded.field == (204, 204)
    assert found.stride == (1, 1)
    assert _mirror(torch.zeros(1, 1, 5, 7)).shape[-1] > 7


def test_stages_of_a_large_module_are_its_parts() -> None:
    model = meta(create_model, "deeplab_v3_resnet50", 21)
    names = stage_names(model)
    assert {"backbone.layer1", "backbone.layer4"} < set(names)
    assert not any(name.startswith("backbone.layer1.") for name in names)


def test_parameters_and_multiply_adds_of_the_stages_sum_up() -> None:
    found = describe_model("segnet", (11,), input_size=(64, 96))
    rows = found["stages"][:-1]
    assert sum(row["params"] for row in rows) == found["params"] == 29_449_355
    assert sum(row["gmacs"] for row in rows) == pytest.approx(found["gmacs"], rel=1e-3)
    assert found["stages"][-1]["stride"] == 1


def test_options_are_those_of_the_builder_and_of_what_it_passes_on_to() -> None:
    assert dict(builder_options("fcn_8s")) == {
        "pool_scales": (1.0, 1.0), "backbone_weights": "none",
    }  # fmt: skip
    assert dict(builder_options("icnet")) == {"guidance": False}


def test_command_prints_every_stage(tmp_path) -> None:
    found = CliRunner().invoke(cli, ["models", "show", "erfnet", "--num-classes", "19", "--json"])
    assert found.exit_code == 0, found.output
    values = json.loads(found.output)
    assert values["year"] == model_info("erfnet").year and values["params"] == 2_066_642
    encoder = values["stages"][0]
    assert (encoder["stage"], encoder["stride"], encoder["channels"]) == ("encoder", 8, 128)
    found = CliRunner().invoke(cli, ["models", "show", "erfnet", "--size", "64", "96"])
    assert found.exit_code == 0 and "encoder" in found.output and "64x96" in found.output


@pytest.mark.parametrize(
    "arguments", [["show", "ernet"], ["show", "erfnet", "--num-classes", "1+2"]]
)
def test_mistakes_are_one_clear_error(arguments) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "segbench", "models", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode not in (0, None) and "Traceback" not in found.stderr
    assert "erfnet" in found.stderr


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom segbench.cli import cli\n"
        "for a in (['models', '--help'], ['models'], ['models', 'show', '--help']):\n"
        "    assert CliRunner().invoke(cli, a).exit_code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fields_do_not_depend_on_the_size_that_was_tried() -> None:
    model = meta(create_model, "deeplab_v2_vgg16", 21)
    found = receptive_fields(model, ["head.3", ""])
    assert found["head.3"].field == (627, 627)
    assert np.isfinite(found[""].field).all()
