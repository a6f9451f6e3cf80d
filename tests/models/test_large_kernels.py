"""DCNv3, large depthwise kernels and their published networks: identities and sizes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import deform_conv2d

from segbench.core.errors import ConfigError
from segbench.layers.dcnv3 import DCNv3, sample_points
from segbench.layers.depthwise_sum import DepthwiseSum, merge
from segbench.models.internimage import SIZES, TINY, InternImage
from segbench.models.profiling.costs import count_macs
from segbench.models.registry import create_model
from segbench.models.replknet import RepLKNet
from segbench.models.slak import FixedZeros, SLaK, nonzero_parameters, sparsify

COUNTS = [
    ("upernet_replknet31b", {}, 113_371_820),
    ("upernet_replknet31b", {"merged": True}, 113_371_820 - (79_864_168 - 79_527_272)),
    ("upernet_replknet31l", {}, 209_892_716),
    ("upernet_slak_t", {}, 84_025_986),
    ("upernet_slak_s", {"sparsity": 0}, 124_453_968),
    ("upernet_slak_b", {}, 193_688_426),
]
INTERNIMAGE = [
    ("t", 59_077_148, (512, 2048), 944),
    ("s", 79_866_956, (512, 2048), 1017),
    ("b", 128_387_852, (512, 2048), 1185),
    ("l", 255_600_606, (640, 2560), 2526),
    ("xl", 367_733_000, (640, 2560), 3142),
    ("h", 1_120_338_396, (896, 896), 3566),
]
"""Size, parameters at 150 classes, input and billions of multiply-adds of the authors' table."""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def drawn(
    height: int, width: int, *, channels: int = 4, groups: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, offsets and modulation in double precision; some points lie outside."""
    values = torch.randn(2, height, width, channels, dtype=torch.float64)
    offsets = 1.5 * torch.randn(2, height, width, groups, 9, 2, dtype=torch.float64)
    modulation = torch.randn(2, height, width, groups, 9, dtype=torch.float64).softmax(-1)
    return values, offsets, modulation


def looped(values: Tensor, offsets: Tensor, modulation: Tensor, scale: float) -> Tensor:
    """Return what ``sample_points`` returns, place by place and neighbour by neighbour."""
    batch, height, width, channels = values.shape
    groups, each = offsets.shape[3], channels // offsets.shape[3]
    result = torch.zeros_like(values)
    places = itertools.product(range(batch), range(height), range(width), range(groups), range(9))
    for n, row, column, group, point in places:
        own = slice(group * each, (group + 1) * each)
        dx, dy = offsets[n, row, column, group, point].tolist()
        x = column + scale * (point // 3 - 1 + dx)
        y = row + scale * (point % 3 - 1 + dy)
        left, top = math.floor(x), math.floor(y)
        for i, j in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= i < height and 0 <= j < width:
                share = (1 - abs(y - i)) * (1 - abs(x - j))
                weight = share * modulation[n, row, column, group, point]
                result[n, row, column, own] += weight * values[n, i, j, own]
    return result


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_sampling_equals_a_loop(scale: float) -> None:
    values, offsets, modulation = drawn(5, 4)
    found = sample_points(values, offsets, modulation, scale=scale)
    torch.testing.assert_close(found, looped(values, offsets, modulation, scale))


def test_gradients_of_sampling() -> None:
    values, offsets, modulation = drawn(3, 4)
    inputs = [values[:1], offsets[:1], modulation[:1]]
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(sample_points, inputs)


def test_no_offsets_and_equal_modulation_average_three_by_three() -> None:
    values, offsets, modulation = drawn(6, 5)
    found = sample_points(values, 0 * offsets, torch.full_like(modulation, 1 / 9))
    expected = functional.avg_pool2d(values.permute(0, 3, 1, 2), 3, stride=1, padding=1)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1))


def test_a_new_layer_averages() -> None:
    layer, features = DCNv3(6, 3), torch.randn(2, 5, 7, 6)
    values = layer.input_projection(features).permute(0, 3, 1, 2)
    average = functional.avg_pool2d(values, 3, stride=1, padding=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(features), layer.output_projection(average))


def test_one_group_equals_torchvision() -> None:
    """A projection of the sum is a convolution whose kernel is that projection at each point."""
    values, offsets, modulation = drawn(6, 7, groups=1)
    weight = torch.randn(5, 4, dtype=torch.float64)
    found = sample_points(values, offsets, modulation) @ weight.T
    by_row = torch.arange(9).reshape(3, 3).T.flatten()
    theirs = deform_conv2d(
        values.permute(0, 3, 1, 2),
        offsets[:, :, :, 0, by_row].flip(-1).flatten(3).permute(0, 3, 1, 2),
        weight[:, :, None, None].expand(-1, -1, 3, 3).contiguous(),
        padding=1,
        mask=modulation[:, :, :, 0, by_row].permute(0, 3, 1, 2),
    )
    torch.testing.assert_close(found, theirs.permute(0, 2, 3, 1))


def test_groups_do_not_mix() -> None:
    values, offsets, modulation = drawn(5, 5)
    before = sample_points(values, offsets, modulation)
    values[..., :2] = 7
    after = sample_points(values, offsets, modulation)
    assert torch.equal(before[..., 2:], after[..., 2:])
    assert not torch.equal(before[..., :2], after[..., :2])


def test_places_are_exact_in_half_precision() -> None:
    """bfloat16 has 8 bits: column 300 is not one of its numbers."""
    values = torch.arange(300.0).remainder(8).expand(1, 2, 300).unsqueeze(-1).bfloat16()
    offsets = torch.zeros(1, 2, 300, 1, 1, 2, dtype=torch.bfloat16)
    modulation = torch.ones(1, 2, 300, 1, 1, dtype=torch.bfloat16)
    found = sample_points(values, offsets, modulation)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, values, atol=0.05, rtol=0)


def test_center_share_of_one_leaves_features_unsampled() -> None:
    layer, features = DCNv3(4, 2, depthwise_kernel=5, center_scale=True), torch.randn(1, 4, 4, 4)
    assert layer.center is not None
    nn.init.constant_(layer.center.bias, 50)
    expected = layer.output_projection(layer.input_projection(features))
    torch.testing.assert_close(layer(features), expected)


def test_sampling_is_counted_as_the_authors_count_it() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = DCNv3(3, 1)

        def forward(self, images: Tensor) -> Tensor:
            sampled: Tensor = self.inner(images.permute(0, 2, 3, 1))
            return sampled

    projections, depthwise, offsets, modulation, sampling = 2 * 9, 27, 3 * 18, 3 * 9, 5 * 9 * 3
    each = projections + depthwise + offsets + modulation + sampling
    assert count_macs(Layer(), (8, 6)) == 48 * each


@pytest.mark.parametrize(("channels", "kernel"), [(5, 3), (4, 2)])
def test_impossible_layers_are_refused(channels: int, kernel: int) -> None:
    with pytest.raises(ConfigError, match="DCNv3"):
        DCNv3(channels, 2, kernel=kernel)


@pytest.mark.parametrize("size", SIZES)
def test_stacking_rules(size: str) -> None:
    stacking = SIZES[size]
    first, second, third, fourth = stacking.depths
    assert first == second == fourth <= third
    for stage in range(4):
        assert stacking.widths[stage] == stacking.channels * 2**stage
        assert stacking.groups[stage] * stacking.group_width == stacking.widths[stage]


def test_internimage_has_four_strides() -> None:
    backbone = InternImage(TINY, drop_path=0.1).eval()
    features = backbone(torch.randn(1, 3, 64, 96))
    shapes = {name: tuple(map_.shape[1:]) for name, map_ in features.items()}
    assert shapes == {
        f"stride{4 << s}": (16 << s, 16 >> s, 24 >> s) for s in range(4)
    }  # fmt: skip
    assert {name: shape[0] for name, shape in shapes.items()} == backbone.channels


@pytest.mark.parametrize(("size", "count", "side", "giga"), INTERNIMAGE)
def test_internimage_costs_what_its_table_says(
    size: str, count: int, side: tuple[int, int], giga: int
) -> None:
    with torch.device("meta"):
        model = create_model(f"upernet_internimage_{size}", 150)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert count_macs(model, side) == pytest.approx(giga * 1e9, rel=2e-3)


@pytest.mark.parametrize(("name", "options", "count"), COUNTS)
def test_parameter_counts(name: str, options: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        model = create_model(name, 150, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def with_statistics(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics, scale and shift of its own; return it for evaluation."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


@pytest.mark.parametrize("kernels", [((9, 9), (5, 5)), ((11, 5), (5, 11), (5, 5))])
def test_merged_kernels_give_equal_outputs(kernels: tuple[tuple[int, int], ...]) -> None:
    layer = with_statistics(DepthwiseSum(3, kernels))
    features = torch.randn(2, 3, 14, 9)
    expected = layer(features)
    assert merge(layer) == 1
    assert [tuple(p.shape) for p in layer.parameters()] == [(3, 1, *layer.extent), (3,)]
    torch.testing.assert_close(layer(features), expected, atol=1e-5, rtol=0)
    assert merge(layer) == 1
    torch.testing.assert_close(layer(features), expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["upernet_replknet_tiny", "upernet_slak_tiny"])
def test_merged_networks_give_equal_outputs(name: str) -> None:
    model = with_statistics(create_model(name, 4))
    images = torch.randn(1, 3, 64, 64)
    expected = model(images)["logits"]
    before = sum(parameter.numel() for parameter in model.backbone.parameters())
    model.backbone.merge()
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) != before
    torch.testing.assert_close(model(images)["logits"], expected, atol=1e-5, rtol=1e-5)


def test_the_merged_form_loads_what_merging_leaves() -> None:
    form = {"depths": (1, 1), "kernels": (9, 7)}
    trained, merged = RepLKNet((4, 8), **form), RepLKNet((4, 8), **form, merged=True)
    trained.merge()
    merged.load_state_dict(trained.state_dict())


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ConfigError, match="odd"):
        DepthwiseSum(4, ((8, 8),))


def test_zeros_of_slak_stay_zero() -> None:
    model = create_model("upernet_slak_tiny", 4, sparsity=0.4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 64, 64))["logits"].sum().backward()
    optimizer.step()
    layers = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        zeros = int((layer.weight == 0).sum())
        assert zeros == round(0.4 * layer.weight.numel())
    total = sum(parameter.numel() for parameter in model.parameters())
    left_out = sum(int((layer.weight == 0).sum()) for layer in layers)
    assert nonzero_parameters(model, 0.4) == total - left_out


@pytest.mark.parametrize(("size", "millions"), [("t", 64.2), ("s", 88.5), ("b", 131.2)])
def test_slak_without_its_zeros(size: str, millions: float) -> None:
    with torch.device("meta"):
        model = create_model(f"upernet_slak_{size}", 150, sparsity=0)
    assert nonzero_parameters(model) == pytest.approx(millions * 1e6, abs=5e4)


def test_a_dense_slak_has_no_masks() -> None:
    backbone = SLaK((4, 8), depths=(1, 1), kernels=(9, 7), sparsity=0)
    assert not any(isinstance(module, FixedZeros) for module in backbone.modules())
    with pytest.raises(ConfigError, match="sparsity"):
        sparsify(backbone, 1.0)
