"""UPerNet, Swin, ConvNeXt, SegFormer and Lawin: published sizes and what makes each of them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.swin_transformer import SwinTransformer

from segbench.layers.pyramid_pooling import PyramidPooling
from segbench.models.lawin import (
    RATIOS,
    LargeWindowAttention,
    LawinHead,
    PooledContext,
    PositionMixing,
    from_windows,
    to_windows,
)
from segbench.models.parts import swin as _swin
from segbench.models.parts.mix_transformer import SHAPES, MiT, MixFFN, ReducedAttention, create_mit
from segbench.models.parts.swin import OutputNorms, Swin, SwinShape, create_swin
from segbench.models.registry import create_model
from segbench.models.upernet import UPerHead, UPerNet, convnext

COUNTS = [
    ("upernet_resnet50", 19, 66_415_238),
    ("upernet_resnet50", 150, 66_516_108),
    ("upernet_swin_t", 150, 59_941_862),
    ("upernet_swin_s", 150, 81_259_766),
    ("upernet_swin_b", 150, 121_279_716),
    ("upernet_swin_l", 150, 233_962_976),
    ("upernet_convnext_t", 150, 60_242_636),
    ("upernet_convnext_s", 150, 81_877_196),
    ("upernet_convnext_b", 150, 122_102_956),
    ("upernet_convnext_l", 150, 234_994_796),
    ("upernet_convnext_xl", 150, 391_140_396),
    ("segformer_b0", 150, 3_752_694),
    ("segformer_b2", 150, 27_461_974),
    ("segformer_b5", 150, 84_708_694),
    ("lawin_mit_b2", 150, 30_253_190),
    ("lawin_mit_b3", 150, 50_129_030),
    ("lawin_mit_b5", 150, 87_499_910),
]
MACS = [
    ("upernet_resnet50", 19, (512, 1024), 473.47),
    ("upernet_swin_t", 150, (512, 2048), 944.39),
    ("upernet_swin_s", 150, (512, 2048), 1037.42),
    ("upernet_swin_b", 150, (512, 2048), 1187.35),
    ("upernet_convnext_t", 150, (512, 2048), 938.49),
    ("upernet_convnext_s", 150, (512, 2048), 1026.85),
    ("upernet_convnext_b", 150, (512, 2048), 1169.34),
    ("segformer_b0", 150, (512, 512), 8.39),
]
SMALL = SwinShape(8, (2, 2, 2, 2), (1, 2, 4, 8))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def small_upernet() -> UPerNet:
    return UPerNet(3, backbone=OutputNorms(Swin(SMALL)), width=16, aux_width=8)


def reached(module: nn.Module, tokens: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Return where in [H, W] the output of one token depends on the input [1, H, W, C]."""
    tokens = tokens.clone().requires_grad_()
    module(tokens)[0, row, column].square().sum().backward()
    assert tokens.grad is not None
    return tokens.grad[0].abs().sum(dim=-1) > 0


def box(rows: slice, columns: slice, side: int = 14) -> torch.Tensor:
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[rows, columns] = True
    return inside


@pytest.mark.parametrize(("name", "num_classes", "expected"), COUNTS)
def test_published_parameter_count(name, num_classes, expected) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(("name", "num_classes", "size", "expected"), MACS)
def test_published_multiply_adds(name, num_classes, size, expected) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes).eval()
        images = torch.empty(1, 3, *size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        assert model(images)["logits"].shape == (1, num_classes, *size)
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    "build",
    [
        small_upernet,
        lambda: create_model("upernet_tiny", 3),
        lambda: create_model("segformer_tiny", 3),
        lambda: create_model("lawin_tiny", 3),
    ],
    ids=["upernet_swin", "upernet", "segformer", "lawin"],
)
@torch.no_grad()
def test_output_does_not_depend_on_the_batch(build) -> None:
    model = build().eval()
    images = torch.randn(3, 3, 61, 45)
    together = model(images)["logits"]
    assert together.shape == (3, 3, 61, 45)
    alone = torch.cat([model(image[None])["logits"] for image in images])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("token", [(0, 0), (6, 6), (7, 3), (13, 13)])
def test_first_block_attends_within_its_window(token) -> None:
    block = Swin(SMALL).features[1][0].eval()
    row, column = (7 * (at // 7) for at in token)
    expected = box(slice(row, row + 7), slice(column, column + 7))
    assert torch.equal(reached(block, torch.randn(1, 14, 14, 8), *token), expected)


@pytest.mark.parametrize(
    ("token", "rows", "columns"),
    [
        ((3, 3), slice(3, 10), slice(3, 10)),
        ((9, 9), slice(3, 10), slice(3, 10)),
        # windows that wrap around hold two or four parts, which do not see each other
        ((0, 0), slice(0, 3), slice(0, 3)),
        ((12, 13), slice(10, 14), slice(10, 14)),
        ((0, 12), slice(0, 3), slice(10, 14)),
        ((5, 1), slice(3, 10), slice(0, 3)),
    ],
)
def test_second_block_attends_within_moved_and_masked_windows(token, rows, columns) -> None:
    block = Swin(SMALL).features[1][1].eval()
    found = reached(block, torch.randn(1, 14, 14, 8), *token)
    assert torch.equal(found, box(rows, columns))


def test_a_window_over_the_whole_map_is_not_moved() -> None:
    block = Swin(SMALL).features[1][1].eval()
    found = reached(block, torch.randn(1, 7, 14, 8), 0, 0)
    assert torch.equal(found, box(slice(0, 7), slice(0, 3))[:7])


@pytest.mark.parametrize("size", [(64, 64), (61, 97), (33, 1), (227, 30)])
def test_swin_takes_any_size(size) -> None:
    swin = Swin(SMALL).eval()
    with torch.no_grad():
        maps = swin(torch.randn(1, 3, *size))
    for index, (name, width) in enumerate(swin.channels.items()):
        side = 4 << index
        assert name == f"stride{side}"
        assert maps[name].shape == (1, width, -(-size[0] // side), -(-size[1] // side))


@torch.no_grad()
def test_swin_is_torchvisions_trunk() -> None:
    network = SwinTransformer([4, 4], 8, [2] * 4, [1, 2, 4, 8], [7, 7]).eval()
    swin = Swin(SMALL).eval()
    swin.features.load_state_dict(network.features.state_dict())
    images = torch.randn(2, 3, 72, 100)
    expected = network.features(images).permute(0, 3, 1, 2)
    assert torch.equal(swin(images)["stride32"], expected)


def test_swin_reads_torchvisions_imagenet_weights(monkeypatch) -> None:
    """The classifier's norm and head are left out; every other tensor has a place."""
    network = SwinTransformer([4, 4], 8, [2] * 4, [1, 2, 4, 8], [7, 7])
    monkeypatch.setitem(_swin.SHAPES, "swin_t", SMALL)
    monkeypatch.setattr(_swin, "torchvision_state", lambda name: network.state_dict())
    swin = create_swin("swin_t", weights="imagenet")
    for name, tensor in swin.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])


def test_swin_leaves_out_later_blocks_more_often() -> None:
    rates = [
        block.stochastic_depth.p
        for stage in Swin(SMALL, drop_path=0.35).features[1::2]
        for block in stage
    ]
    assert rates == pytest.approx([0.05 * index for index in range(8)])


@torch.no_grad()
def test_output_norms_normalise_over_channels() -> None:
    maps = OutputNorms(Swin(SMALL))(torch.randn(2, 3, 64, 64))
    assert list(maps) == ["stride4", "stride8", "stride16", "stride32"]
    for features in maps.values():
        mean, variance = features.mean(dim=1), features.var(dim=1, unbiased=False)
        assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-5)
        assert torch.allclose(variance, torch.ones_like(variance), atol=2e-2)


def test_convnext_has_norms_on_four_maps_and_leaves_out_blocks() -> None:
    with torch.device("meta"):
        backbone = convnext("convnext_tiny", weights="none", drop_path=0.4)
        maps = backbone(torch.empty(1, 3, 64, 96))
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "stride4": (96, 16, 24),
        "stride8": (192, 8, 12),
        "stride16": (384, 4, 6),
        "stride32": (768, 2, 3),
    }
    rates = [
        module.p for module in backbone.modules() if type(module).__name__ == "StochasticDepth"
    ]
    assert rates == pytest.approx([0.4 * index / 17 for index in range(18)])
    kernels = [
        m.kernel_size for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.groups > 1
    ]
    assert kernels == [(7, 7)] * 18


@torch.no_grad()
def test_upernet_adds_every_coarser_level_to_the_finer_ones() -> None:
    """With identities for its convolutions, level k is the sum of maps k and coarser, enlarged."""
    head = UPerHead([2] * 4, 3, width=2)
    head.top = nn.Identity()
    head.lateral = nn.ModuleList([nn.Identity()] * 3)
    head.smooth = nn.ModuleList([nn.Identity()] * 3)
    head.join = head.classifier = nn.Identity()
    maps = [torch.full((1, 2, 16 >> k, 16 >> k), 10.0**k) for k in range(4)]
    levels = head(maps)
    assert levels.shape == (1, 8, 16, 16)
    assert levels[0, ::2, 5, 5].tolist() == [1111.0, 1110.0, 1100.0, 1000.0]
    assert levels[0, 1::2, 0, 15].tolist() == [1111.0, 1110.0, 1100.0, 1000.0]


def test_upernet_pools_the_coarsest_map_and_reads_the_third_for_its_auxiliary_scores() -> None:
    with torch.device("meta"):
        model = create_model("upernet_resnet50", 5)
        outputs = model.train()(torch.empty(2, 3, 128, 64))
        evaluated = model.eval()(torch.empty(2, 3, 128, 64))
    pyramids = [module for module in model.modules() if isinstance(module, PyramidPooling)]
    assert [(p.bins, p.out_channels) for p in pyramids] == [((1, 2, 3, 6), 2048 + 4 * 512)]
    assert [aux.shape for aux in outputs["aux"]] == [(2, 5, 8, 4)]
    assert model.aux_weight == 0.4
    assert list(evaluated) == ["logits"]


@pytest.mark.parametrize("reduction", [1, 2, 4])
@torch.no_grad()
def test_reduced_attention_is_attention_to_fewer_tokens(reduction) -> None:
    """Equal to torch's multi-head attention with the reduced map as keys and values."""
    attention = ReducedAttention(12, 3, reduction)
    tokens = torch.randn(2, 9 * 8, 12)
    context = attention.context(tokens, (9, 8))
    assert context.shape == (2, (9 // reduction) * (8 // reduction), 12)
    reference = nn.MultiheadAttention(12, 3, batch_first=True)
    reference.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
    reference.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
    reference.out_proj.load_state_dict(attention.out.state_dict())
    expected, _ = reference(tokens, context, context)
    assert torch.allclose(attention(tokens, (9, 8)), expected, atol=1e-6)


@torch.no_grad()
def test_only_the_depthwise_convolution_tells_position() -> None:
    """Attention commutes with any order of the tokens; the MLP does only without its mixing."""
    tokens, order = torch.randn(1, 36, 8), torch.randperm(36)
    attention, mlp = ReducedAttention(8, 2, 1), MixFFN(8)
    moved = attention(tokens[:, order], (6, 6))
    assert torch.allclose(moved, attention(tokens, (6, 6))[:, order], atol=1e-6)
    assert not torch.allclose(mlp(tokens[:, order], (6, 6)), mlp(tokens, (6, 6))[:, order])
    centre = mlp.mix.weight[..., 1, 1].clone()
    mlp.mix.weight.zero_()
    mlp.mix.weight[..., 1, 1] = centre
    assert torch.allclose(mlp(tokens[:, order], (6, 6)), mlp(tokens, (6, 6))[:, order], atol=1e-6)


def test_mit_has_overlapping_patches_and_falling_reductions() -> None:
    with torch.device("meta"):
        mit = MiT(SHAPES["mit_b2"], drop_path=0.1)
    patches = [(stage.embed.kernel_size[0], stage.embed.stride[0]) for stage in mit.stages]
    assert patches == [(7, 4), (3, 2), (3, 2), (3, 2)]
    assert [stage.blocks[0].attention.reduction for stage in mit.stages] == [8, 4, 2, 1]
    assert [len(stage.blocks) for stage in mit.stages] == [3, 4, 6, 3]
    rates = [block.drop_path.p for stage in mit.stages for block in stage.blocks]
    assert rates == pytest.approx([0.1 * index / 15 for index in range(16)])


def test_mit_takes_maps_smaller_than_its_reduction() -> None:
    mit = MiT(SHAPES["mit_tiny"]).eval()
    with torch.no_grad():
        maps = mit(torch.randn(1, 3, 5, 9))
    assert [tuple(m.shape[-2:]) for m in maps.values()] == [(3, 5), (2, 3), (1, 2), (1, 1)]


def test_mit_reads_a_file(tmp_path) -> None:
    first, second = create_mit("mit_tiny"), create_mit("mit_tiny")
    assert not torch.equal(first.stages[0].embed.weight, second.stages[0].embed.weight)
    save_file(first.state_dict(), tmp_path / "mit.safetensors")
    third = create_mit("mit_tiny", weights=str(tmp_path / "mit.safetensors"))
    for one, two in zip(first.parameters(), third.parameters(), strict=True):
        assert torch.equal(one, two)


@torch.no_grad()
def test_windows_are_cut_and_joined() -> None:
    features = torch.randn(2, 3, 16, 24)
    windows = to_windows(features)
    assert windows.shape == (2 * 6, 3, 64)
    assert torch.equal(windows[6 + 4].reshape(3, 8, 8), features[1, :, 8:, 8:16])
    assert torch.equal(from_windows(windows, (16, 24)), features)


@pytest.mark.parametrize("ratio", RATIOS)
@torch.no_grad()
def test_context_equals_pooling_each_large_window(ratio) -> None:
    """Cut out R times the window around each window, pool it to 8x8, normalise."""
    context = PooledContext(5, ratio)
    nn.init.normal_(context.norm.weight)
    nn.init.normal_(context.norm.bias)
    features = torch.randn(2, 5, 16, 24)
    margin = 4 * (ratio - 1)
    padded = functional.pad(features, (margin,) * 4)
    expected = []
    for image in padded:
        for top in (0, 8):
            for left in (0, 8, 16):
                large = image[:, top : top + 8 * ratio, left : left + 8 * ratio]
                cells = large.reshape(5, 8, ratio, 8, ratio)
                pooled = (cells.amax(dim=(2, 4)) + cells.mean(dim=(2, 4))) / 2
                expected.append(context.norm(pooled.flatten(1).T).T)
    assert torch.allclose(context(features), torch.stack(expected), atol=1e-5)


@torch.no_grad()
def test_position_mixing_is_one_linear_layer_a_head() -> None:
    mixing, windows = PositionMixing(4), torch.randn(3, 12, 64)
    expected = windows.clone()
    for head in range(4):
        part = slice(3 * head, 3 * head + 3)
        weight, bias = mixing.weight[head], mixing.bias[head, 0]
        expected[:, part] += functional.linear(windows[:, part], weight, bias)
    assert torch.allclose(mixing(windows), expected, atol=1e-6)


@torch.no_grad()
def test_large_window_attention_equals_a_loop_over_windows_and_heads() -> None:
    attention = LargeWindowAttention(16, 2).eval()
    features = torch.randn(1, 16, 16, 8)
    context = attention.mixing(attention.context(features))
    expected = torch.empty(1, 8, 16, 8)
    for index in range(2):
        window = features[..., 8 * index : 8 * index + 8, :].flatten(2)
        query = attention.query(window)[0]
        key = attention.key(context[index : index + 1])[0]
        value = attention.value(context[index : index + 1])[0]
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            weights = (query[part].T @ key[part] / 2**0.5).softmax(dim=1)
            read = (weights @ value[part].T).T.reshape(2, 8, 8)
            expected[0, part, 8 * index : 8 * index + 8] = read
    expected = features + attention.norm(attention.out(expected))
    assert torch.allclose(attention(features), expected, atol=1e-5)


def test_lawin_has_a_head_for_every_cell_of_the_ratio_and_five_branches() -> None:
    with torch.device("meta"):
        head = LawinHead([64, 128, 320, 512], 19)
        pyramid = head.pyramid(torch.empty(2, 512, 13, 30))
    assert [attention.heads for attention in head.attentions] == [64, 16, 4]
    assert pyramid.shape == (2, 5 * 512, 13, 30)
