"""Pairs of ids and bytes counted by NumPy and by the compiled loops, against dictionaries."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segbench.evaluation.counting.runs import count_byte_pairs, count_id_pairs, id_areas

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


@st.composite
def pairs_of_maps(draw, top):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    number = draw(st.sampled_from([1, 3, 50]))
    values = rng.integers(0, top, number)
    across = draw(st.sampled_from([1, 5, 40]))
    maps = rng.choice(values, (2, height, width)).repeat(across, 2)[:, :, :width]
    return np.where(rng.random(maps.shape) < 0.05, rng.choice(values), maps)


def expected(first, second, size):
    counted = Counter(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return {a * size + b: n for (a, b), n in sorted(counted.items())}


@RELAXED
@given(pairs_of_maps(2**24), st.sampled_from([np.int32, np.int64, np.uint32]), st.booleans())
def test_id_pairs(loops, maps, dtype, turned):
    first, second = (m.astype(dtype).T if turned else m.astype(dtype) for m in maps)
    keys, pixels = count_id_pairs(first, second)
    assert dict(zip(keys.tolist(), pixels.tolist(), strict=True)) == expected(first, second, 2**24)
    assert keys.tolist() == sorted(keys.tolist())
    assert id_areas(first) == dict(sorted(Counter(first.ravel().tolist()).items()))


def test_noise_has_as_many_pairs_as_pixels(loops):
    ids = np.random.default_rng(0).permutation(2**17).astype(np.int32).reshape(256, 512)
    keys, pixels = count_id_pairs(ids, ids[::-1])
    assert (np.diff(keys.astype(np.int64)) > 0).all()
    assert (pixels == 1).all()
    assert len(keys) == ids.size


@pytest.mark.parametrize("ids", [-1, -(2**31), 2**24])
def test_ids_out_of_range_make_the_same_pairs_either_way(loops, ids):
    first = np.array([[ids, 0, ids, 5]], dtype=np.int32)
    keys, pixels = count_id_pairs(first, np.array([[0, ids, ids, 5]], dtype=np.int32))
    wide = first.astype(np.int64).ravel().tolist()
    other = [0, ids, ids, 5]
    wanted = Counter((a * 2**24 + b) % 2**64 for a, b in zip(wide, other, strict=True))
    assert dict(zip(keys.tolist(), pixels.tolist(), strict=True)) == wanted


def test_no_pixels(loops):
    nothing = np.zeros((0, 4), dtype=np.int32)
    assert [len(part) for part in count_id_pairs(nothing, nothing)] == [0, 0]
    assert count_byte_pairs(nothing.astype(np.uint8), nothing.astype(np.uint8)).sum() == 0


@RELAXED
@given(pairs_of_maps(256), st.integers(0, 9))
def test_byte_pairs(loops, maps, shift):
    memory = np.zeros(maps[0].size + shift, dtype=np.uint8)
    memory[shift:] = maps[0].ravel()
    first, second = memory[shift:].reshape(maps[0].shape), maps[1].astype(np.uint8)
    table = count_byte_pairs(first, second)
    assert (table.shape, table.dtype) == ((256, 256), np.int64)
    cells = {int(i): int(table.flat[i]) for i in np.flatnonzero(table)}
    assert cells == expected(first, second, 256)
