"""Boundaries of all regions of a map in one pass, against erosion of each region."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segbench.evaluation.boundary.bits import any_of_lines, pack, spread_up, unpack
from segbench.evaluation.boundary.distance import boundary_distance, boundary_map
from tests.evaluation import boundary_oracle as oracle


@st.composite
def maps(draw):
    height, width = draw(st.integers(1, 50)), draw(st.integers(1, 140))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = oracle.blobs(rng, height, width, draw(st.integers(0, 6)))
    if draw(st.booleans()):
        labels[rng.integers(0, 60, labels.shape) == 0] = 9
    return labels.astype(draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.int64])))


def by_erosion(labels, distance):
    found = np.zeros(labels.shape, dtype=bool)
    for label in np.unique(labels):
        found |= oracle.boundary_of(labels == label, distance)
    return found


@given(maps(), st.integers(1, 40))
@settings(deadline=None, max_examples=150)
def test_every_region_loses_what_erosion_leaves(labels, distance):
    assert (boundary_map(labels, distance) == by_erosion(labels, distance)).all()


@given(maps())
@settings(deadline=None, max_examples=60)
def test_the_distance_is_that_of_the_size_and_ids_are_names(labels):
    expected = by_erosion(labels, None)
    assert (boundary_map(labels) == expected).all()
    renamed = labels.astype(np.int64) * 70_001 + 5
    assert (boundary_map(renamed) == expected).all()
    assert (boundary_map(labels.T) == expected.T).all()
    assert (boundary_map(labels[::-1]) == expected[::-1]).all()


@pytest.mark.parametrize(
    ("size", "distance"),
    [((1, 1), 1), ((30, 40), 1), ((45, 60), 2), ((480, 640), 16), ((1024, 2048), 46)],
)
def test_known_distances(size, distance):
    assert boundary_distance(*size) == distance


def test_half_pixels_round_to_even():
    assert boundary_distance(60, 45) == 2  # 1.5
    assert boundary_distance(75, 100) == 2  # 2.5


def test_a_known_square():
    labels = np.zeros((9, 9), dtype=np.uint8)
    labels[1:8, 1:8] = 1
    inner = ~boundary_map(labels, 2)
    assert np.argwhere(inner).tolist() == [[y, x] for y in (3, 4, 5) for x in (3, 4, 5)]


@pytest.mark.parametrize("width", [1, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 150])
def test_bits_spread_like_pixels(width, length):
    lines = np.random.default_rng(width * length).random((5, width)) < 0.05
    bits = pack(lines, before=3, width=width + 3 + length)
    spread = unpack(spread_up(bits, length), begin=3, width=width)
    expected = [
        [line[max(0, x - length + 1) : x + 1].any() for x in range(width)] for line in lines
    ]
    assert (spread == np.array(expected)).all()
    united = unpack(any_of_lines(bits, 3), begin=3, width=width)
    assert (united == (lines[:-2] | lines[1:-1] | lines[2:])).all()
