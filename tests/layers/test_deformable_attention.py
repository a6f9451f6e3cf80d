"""Multi-scale deformable attention against a loop, and its parts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from segbench.core.errors import ConfigError
from segbench.layers.deformable_attention import MACS_PER_SAMPLE, DeformableAttention, sample_levels
from segbench.layers.positions import sine_positions

SIZES = [(3, 4), (5, 2)]
PLACES = sum(height * width for height, width in SIZES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def example(
    queries: int = 6, heads: int = 2, points: int = 3, *, wide: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, points (some outside of the maps) and weights, in double precision."""
    shape = (2, queries, heads, len(SIZES), points)
    values = torch.randn(2, PLACES, heads, 4, dtype=torch.float64)
    where = 0.5 + wide * (1.4 * torch.rand(*shape, 2, dtype=torch.float64) - 0.7)
    return values, where, torch.rand(shape, dtype=torch.float64)


def by_loop(values: torch.Tensor, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum as it is written: four neighbours of each point of each map of each head."""
    batch, queries, heads, _, count = weights.shape
    result = torch.zeros(batch, queries, heads, values.shape[-1], dtype=values.dtype)
    starts = [0, *itertools.accumulate(height * width for height, width in SIZES)]
    for n, q, m, k in itertools.product(*map(range, (batch, queries, heads, count))):
        for level, (height, width) in enumerate(SIZES):
            x, y = points[n, q, m, level, k].tolist()
            x, y = x * width - 0.5, y * height - 0.5
            for row, column in itertools.product(
                (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
            ):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    value = values[n, starts[level] + row * width + column, m]
                    result[n, q, m] += weights[n, q, m, level, k] * share * value
    return result.flatten(2)


def test_equals_the_loop() -> None:
    values, points, weights = example()
    assert points.min() < 0 and points.max() > 1
    found = sample_levels(values, SIZES, points, weights)
    torch.testing.assert_close(found, by_loop(values, points, weights), atol=1e-12, rtol=1e-12)


def test_gradients_are_those_of_the_function() -> None:
    tensors = [t.requires_grad_() for t in example(queries=2, points=2, wide=0.9)]
    assert torch.autograd.gradcheck(
        lambda values, points, weights: sample_levels(values, SIZES, points, weights), tensors
    )


def test_points_at_the_centres_read_the_map() -> None:
    """All weight on one point at a position's centre gives the value there."""
    values, points, weights = example(queries=12, points=1)
    height, width = SIZES[0]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=-1).double()
    points[:, :, :, 0, 0] = centres.reshape(1, 12, 1, 2)
    weights.zero_()[:, :, :, 0] = 1
    found = sample_levels(values, SIZES, points, weights)
    torch.testing.assert_close(found, values[:, :12].flatten(2))


def test_layer_is_the_sum_of_its_definition() -> None:
    layer = DeformableAttention(8, heads=2, levels=2, points=3).double()
    torch.nn.init.normal_(layer.offsets.weight)
    torch.nn.init.normal_(layer.weights.weight)
    queries, features = (torch.randn(2, n, 8, dtype=torch.float64) for n in (5, PLACES))
    places = torch.rand(5, 2, dtype=torch.float64)
    offsets = layer.offsets(queries).reshape(2, 5, 2, 2, 3, 2)
    extent = torch.tensor([[w, h] for h, w in SIZES]).double()
    points = places.reshape(1, 5, 1, 1, 1, 2) + offsets / extent.reshape(1, 1, 1, 2, 1, 2)
    weights = layer.weights(queries).reshape(2, 5, 2, 6).softmax(-1).reshape(2, 5, 2, 2, 3)
    values = layer.values(features).reshape(2, PLACES, 2, 4)
    expected = layer.output(by_loop(values, points, weights))
    found = layer(queries, places, features, SIZES)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_new_layer_looks_one_to_four_positions_away_in_eight_directions() -> None:
    layer = DeformableAttention(8, heads=8, levels=3, points=4)
    offsets = layer.offsets.bias.detach().reshape(8, 3, 4, 2)
    assert torch.equal(offsets.abs().amax(-1), torch.arange(1.0, 5).expand(8, 3, 4))
    assert len({tuple(o.sign().int().tolist()) for o in offsets[:, 0, 0].round(decimals=3)}) == 8
    assert not layer.weights.weight.any() and not layer.weights.bias.any()


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ConfigError, match="10 channels cannot be split into 4 heads"):
        DeformableAttention(10, heads=4)


def test_half_precision_samples_in_single() -> None:
    layer = DeformableAttention(8, heads=2, levels=2)
    queries, features, places = torch.randn(1, 5, 8), torch.randn(1, PLACES, 8), torch.rand(5, 2)
    exact = layer(queries, places, features, SIZES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = layer(queries, places, features, SIZES)
    assert rough.dtype == torch.bfloat16 and exact.dtype == torch.float32
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)


def test_uncounted_multiply_adds_are_those_of_sampling() -> None:
    layer = DeformableAttention(8, heads=2, levels=2, points=4)
    output = torch.zeros(1, 5, 8)
    assert layer.uncounted_macs(output) == MACS_PER_SAMPLE * 2 * 4 * 5 * 8


def test_positions_tell_rows_in_the_first_half_and_columns_in_the_second() -> None:
    found = sine_positions(3, 5, 8)
    assert found.shape == (8, 3, 5)
    assert torch.equal(found[:4], found[:4, :, :1].expand(-1, -1, 5))
    assert torch.equal(found[4:], found[4:, :1].expand(-1, 3, -1))
    turn = 2 * math.pi * torch.arange(1, 4) / 3
    torch.testing.assert_close(found[0, :, 0], turn.sin(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1, :, 0], turn.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[2, :, 0], (turn / 100).sin(), atol=1e-5, rtol=0)
