"""Border-ness in closed form and the choice of positive samples against brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.datasets.source import instances_from_masks
from segbench.models.parts.lpsnet_samples import (
    OVERLAPS,
    POSITIVES,
    QUALITIES,
    Points,
    SampleRule,
    border_distances,
    box_distances,
    centrality,
)

THINGS = 3

# Border-ness and centre-ness


def quality_of(mask: np.ndarray, kind: str = "borderness") -> np.ndarray:
    """The quality of every pixel of a mask, 0 outside of it, [H, W]."""
    points = Points.of(mask.shape, (1,), torch.device("cpu"))
    if kind == "centerness":
        boxes = torch.from_numpy(instances_from_masks(mask[None], [0]).boxes)
        found = centrality(box_distances(points, boxes))
    else:
        found = centrality(border_distances(points, torch.from_numpy(mask[None])))
    return found.view(mask.shape).numpy()


def rectangle(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((20, 24), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def formula(left: float, top: float, right: float, bottom: float) -> float:
    horizontal = min(left, right) / max(left, right)
    return math.sqrt(horizontal * min(top, bottom) / max(top, bottom))


def test_borderness_of_a_rectangle_is_its_centerness() -> None:
    mask = rectangle((3, 14), (5, 12))
    found = quality_of(mask)
    assert (found[~mask] == 0).all()
    np.testing.assert_allclose(found[mask], quality_of(mask, "centerness")[mask], rtol=1e-6)
    assert found[8, 8] == 1
    assert found[3, 5] == pytest.approx(formula(0.5, 0.5, 6.5, 10.5))
    assert found[4, 9] == pytest.approx(formula(4.5, 1.5, 2.5, 9.5))


def test_borderness_of_a_cross_follows_its_arms() -> None:
    mask = rectangle((8, 11), (2, 23)) | rectangle((0, 19), (11, 14))
    borderness, centerness = quality_of(mask), quality_of(mask, "centerness")
    assert borderness[9, 12] == centerness[9, 12] == 1
    assert borderness[9, 4] == pytest.approx(formula(2.5, 1.5, 18.5, 1.5))
    assert borderness[2, 12] == pytest.approx(formula(1.5, 2.5, 1.5, 16.5))
    assert centerness[2, 12] == pytest.approx(borderness[2, 12])
    assert borderness[2, 11] == pytest.approx(formula(0.5, 2.5, 2.5, 16.5))
    assert centerness[2, 11] == pytest.approx(formula(9.5, 2.5, 11.5, 16.5))


def test_borderness_of_a_ring_ends_at_its_hole() -> None:
    mask = rectangle((2, 17), (2, 17)) & ~rectangle((5, 14), (5, 14))
    found = quality_of(mask)
    assert found[9, 9] == 0
    assert found[9, 3] == pytest.approx(1.0)
    assert found[3, 3] == pytest.approx(formula(1.5, 1.5, 13.5, 13.5))
    assert quality_of(mask, "centerness")[9, 3] == pytest.approx(math.sqrt(1.5 / 13.5))


def test_borderness_of_one_pixel_is_one() -> None:
    found = quality_of(rectangle((7, 8), (0, 1)))
    assert found[7, 0] == 1
    assert found.sum() == 1


# Positive samples


def slow_quality(mask: np.ndarray, box: np.ndarray, x: int, y: int, kind: str) -> float:
    if kind == "centerness":
        sides = (x + 0.5 - box[0], y + 0.5 - box[1], box[2] - x - 0.5, box[3] - y - 0.5)
    else:
        sides = tuple(walk(mask, x, y, *way) for way in ((-1, 0), (0, -1), (1, 0), (0, 1)))
    return formula(*sides) if min(sides) > 0 else 0.0


def walk(mask: np.ndarray, x: int, y: int, dx: int, dy: int) -> float:
    """Distance from the middle of a pixel to where the mask ends."""
    steps = 0
    while 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
        x, y, steps = x + dx, y + dy, steps + 1
    return steps - 0.5


def slow_samples(rule: SampleRule, scene: dict[str, Any]) -> dict[int, tuple[int, float]]:
    """The owner and the quality of each point that has one."""
    masks, boxes, labels = scene["masks"], scene["boxes"], scene["labels"]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
    owners: dict[int, tuple[int, float]] = {}
    number = -1
    for stride in scene["strides"]:
        rows, columns = (-(-side // stride) for side in masks.shape[1:])
        for row, column in np.ndindex(rows, columns):
            number += 1
            x, y = column * stride + stride // 2, row * stride + stride // 2
            claims = []
            for k, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
                sides = (x + 0.5 - box[0], y + 0.5 - box[1], box[2] - x - 0.5, box[3] - y - 0.5)
                low = 0 if stride == min(scene["strides"]) else 4 * stride
                high = math.inf if stride == max(scene["strides"]) else 8 * stride
                if min(sides) <= 0 or not low < max(sides) <= high:
                    continue
                cell = mask[row * stride : (row + 1) * stride, column * stride :][:, :stride]
                pixel = mask[y : y + 1, x : x + 1]
                if not (cell if rule.positives == "cell" else pixel).any():
                    continue
                quality = slow_quality(mask, box, x, y, rule.quality)
                cost = {
                    "smallest_area": areas[k],
                    "highest_confidence": -scene["chances"][labels[k] - 1, number],
                    "closest_borderness": abs(quality - scene["quality"][number]),
                }[rule.overlap]
                claims.append((cost, areas[k], k, quality))
            if claims:
                _, _, owner, quality = min(claims)
                owners[number] = (owner, quality)
    return owners


@st.composite
def crowded_scenes(draw: st.DrawFn) -> dict[str, Any]:
    """Random masks that overlap, and what a network might say of the points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(12, 40)), draw(st.integers(12, 70))
    masks = np.zeros((draw(st.integers(1, 5)), height, width), dtype=bool)
    for mask in masks:
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        rows, columns = rng.integers(3, height + 1), rng.integers(3, width + 1)
        mask[top : top + rows, left : left + columns] = True
        mask &= rng.random(mask.shape) < draw(st.sampled_from([0.7, 0.98, 1.0]))
        mask[top, left] = True
    strides = (4, 8)
    number = sum((-(-height // s)) * (-(-width // s)) for s in strides)
    return {
        "masks": masks,
        "boxes": instances_from_masks(masks, [0] * len(masks)).boxes,
        "labels": rng.integers(1, THINGS + 1, len(masks)),
        "strides": strides,
        "quality": rng.random(number).astype(np.float32),
        "chances": rng.random((THINGS, number)).astype(np.float32),
    }


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("quality", QUALITIES)
@settings(max_examples=12, deadline=None)
@given(scene=crowded_scenes())
def test_samples_equal_brute_force(
    quality: str, positives: str, overlap: str, scene: dict[str, Any]
) -> None:
    rule = SampleRule(quality, overlap, positives)
    points = Points.of(scene["masks"].shape[1:], scene["strides"], torch.device("cpu"))
    truth = {name: torch.from_numpy(scene[name]) for name in ("masks", "boxes", "labels")}
    network = (torch.from_numpy(scene[name]) for name in ("quality", "chances"))
    found = rule.samples(points, truth, *network)
    expected = slow_samples(rule, scene)
    assert found.points.tolist() == list(expected)
    assert found.objects.tolist() == [owner for owner, _ in expected.values()]
    qualities = [value for _, value in expected.values()]
    np.testing.assert_allclose(found.quality.numpy(), qualities, atol=1e-5)


def two_squares() -> tuple[Points, dict[str, torch.Tensor]]:
    """A large and a small object that overlap in a square of which the point (10, 10) is one."""
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 2:30, 2:30] = True
    masks[1, 8:12, 8:12] = True
    boxes = torch.tensor([[2.0, 2, 30, 30], [8, 8, 12, 12]])
    truth = {"masks": masks, "boxes": boxes, "labels": torch.tensor([1, 2])}
    return Points.of((32, 32), (4,), torch.device("cpu")), truth


@pytest.mark.parametrize(
    ("overlap", "quality", "chance", "owner"),
    [
        ("smallest_area", 0.0, 0.9, 1),
        ("highest_confidence", 0.0, 0.9, 0),
        ("highest_confidence", 0.0, 0.1, 1),
        ("closest_borderness", 0.4, 0.1, 0),
        ("closest_borderness", 0.55, 0.1, 1),
    ],
)
def test_each_rule_of_overlaps(overlap: str, quality: float, chance: float, owner: int) -> None:
    """At (10, 10) the border-ness is 8.5 / 19.5 of the large object, 0.6 of the small one."""
    points, truth = two_squares()
    place = points.places.tolist().index([10, 10])
    chances = torch.tensor([chance, 0.5, 0.0])[:, None].expand(3, len(points.places))
    predicted = torch.full((len(points.places),), quality)
    found = SampleRule("borderness", overlap, "point").samples(points, truth, predicted, chances)
    index = found.points.tolist().index(place)
    assert int(found.objects[index]) == owner
    assert float(found.quality[index]) == pytest.approx((8.5 / 19.5, 0.6)[owner])
