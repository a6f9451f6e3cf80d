"""The deformable convolution against an ordinary one and a loop, and the head made of it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional
from torchvision.ops import deform_conv2d

from segbench.core.errors import ConfigError
from segbench.layers.deformable import (
    DeformableConv,
    DeformableSemanticHead,
    deformable_block,
    deformed,
)
from segbench.models.profiling.costs import count_macs


def random_features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bilinear(image: torch.Tensor, y: float, x: float) -> torch.Tensor:
    """Channels of ``image`` [C, H, W] at one place, zero outside."""
    total = torch.zeros(image.shape[0])
    top, left = int(y // 1), int(x // 1)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def loop(layer: DeformableConv, image: torch.Tensor) -> torch.Tensor:
    """The layer on [C, H, W], one sample at a time."""
    offsets = layer.offsets(image[None])[0]
    result = torch.zeros(layer.weight.shape[0], *image.shape[1:])
    for row, column in itertools.product(range(image.shape[1]), range(image.shape[2])):
        for point in range(9):
            dy, dx = offsets[2 * point : 2 * point + 2, row, column].tolist()
            place = (row + point // 3 - 1 + dy, column + point % 3 - 1 + dx)
            taps = layer.weight[:, :, point // 3, point % 3]
            result[:, row, column] += taps @ bilinear(image, *place)
    return result


def test_a_new_layer_is_an_ordinary_convolution() -> None:
    layer, features = DeformableConv(4, 6, bias=True), random_features(2, 4, 7, 5)
    expected = functional.conv2d(features, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(features), expected, rtol=1e-5, atol=1e-5)


def test_moved_samples_equal_a_loop() -> None:
    torch.manual_seed(1)
    layer, image = DeformableConv(3, 2), random_features(3, 6, 5)
    torch.nn.init.normal_(layer.offsets.weight, std=0.3)
    torch.nn.init.normal_(layer.offsets.bias)
    with torch.no_grad():
        torch.testing.assert_close(layer(image[None])[0], loop(layer, image), rtol=1e-4, atol=1e-4)


def test_convolution_and_its_gradients_equal_torchvision() -> None:
    shapes = ((2, 3, 6, 5), (2, 18, 6, 5), (4, 3, 3, 3), (4,))
    ours, theirs = (
        [random_features(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
        for _ in range(2)
    )
    found, expected = deformed(*ours), deform_conv2d(*theirs, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (found * found).sum().backward()
    (expected * expected).sum().backward()
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-3)


def test_places_are_exact_in_bfloat16() -> None:
    layer, features = DeformableConv(4, 6), random_features(1, 4, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(features)
    half = layer.bfloat16()(features.bfloat16())
    exact = layer.float()(features)
    for low in (found, half):
        assert low.dtype == torch.bfloat16
        torch.testing.assert_close(low.float(), exact, rtol=2e-2, atol=2e-2)


def test_parameters_and_multiply_adds_of_a_block() -> None:
    block = deformable_block(64, 32, norm="group")
    assert sum(p.numel() for p in block.parameters()) == 9 * 64 * 32 + (9 * 64 + 1) * 18 + 2 * 32
    assert count_macs(torch.nn.Sequential(torch.nn.Conv2d(3, 64, 1), block), (8, 6)) == 48 * (
        3 * 64 + 9 * 64 * 32 + 9 * 64 * 18
    )


def pyramid(channels: int) -> dict[str, torch.Tensor]:
    return {
        str(level): random_features(2, channels, 16 >> level, 12 >> level) for level in range(3)
    }


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_head_reads_every_level_at_the_finest(norm: str) -> None:
    torch.manual_seed(0)
    head = DeformableSemanticHead(8, 5, widths=(16, 8), levels=("0", "1", "2"), norm=norm)
    maps = {name: features.requires_grad_() for name, features in pyramid(8).items()}
    logits = head(maps)
    assert logits.shape == (2, 5, 16, 12)
    logits.sum().backward()
    assert all(features.grad is not None and features.grad.any() for features in maps.values())


def test_shared_head_has_one_stack_for_all_levels() -> None:
    settings = {"widths": (16, 8), "levels": ("0", "1", "2")}
    own, shared = (DeformableSemanticHead(8, 5, shared=s, **settings) for s in (False, True))
    assert (len(own.stacks), len(shared.stacks)) == (3, 1)
    assert shared(pyramid(8)).shape == own(pyramid(8)).shape
    same = {name: random_features(1, 8, 4, 4) for name in ("0", "1", "2")}
    first, second, third = shared.features(same).chunk(3, dim=1)
    assert torch.equal(first, second) and torch.equal(first, third)
    assert not torch.equal(*own.features(same).chunk(3, dim=1)[:2])


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="'layer'"):
        deformable_block(8, 8, norm="layer")
