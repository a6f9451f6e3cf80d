"""Boundary PQ against loops, figures of boundary-iou-api, and what no order may change."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segbench.core.errors import ConfigError
from segbench.core.types import Category, CategoryTable
from segbench.evaluation.boundary_scores import boundary_scores, boundary_view
from segbench.evaluation.counts import load_counts, save_counts
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.resampled import statistic
from tests.evaluation import boundary_oracle as oracle

COCO = get_protocol("coco-panoptic")
TABLE = CategoryTable(
    tuple(Category(i, str(i), i != 7, (0, 0, 0)) for i in (3, 7, 90)),
)
OFFICIAL = {
    3: (22.739320456242705, 30, 36, 18),
    7: (21.875800307681896, 29, 8, 20),
    90: (19.303022111861637, 26, 14, 24),
}
"""IoU sum, tp, fp, fn of boundary-iou-api on scenes 0 to 39 of 120 + seed by 160 pixels."""


def counted(truth, prediction, image_id=0, position=0, strict=False):
    return panoptic.count(
        truth[0], prediction[0], truth_segments=truth[1], predicted_segments=prediction[1],
        categories=TABLE, image_id=image_id, position=position, boundary=True, strict_compat=strict,
    )  # fmt: skip


@pytest.fixture(scope="module")
def counts():
    scenes = (oracle.panoptic_scene(seed, 120 + seed, 160) for seed in range(40))
    return [counted(*scene, image_id=i, position=i) for i, scene in enumerate(scenes)]


def test_sums_are_those_of_the_official_tool():
    """The tool knows one crowd a category, as ``strict_compat`` does."""
    scenes = (oracle.panoptic_scene(seed, 120 + seed, 160) for seed in range(40))
    parts = [counted(*scene, i, i, strict=True) for i, scene in enumerate(scenes)]
    rows = boundary_scores(panoptic.merge(parts), COCO)["per_class"]
    for row, (iou, tp, fp, fn) in zip(rows, OFFICIAL.values(), strict=True):
        assert (row["boundary_tp"], row["boundary_fp"], row["boundary_fn"]) == (tp, fp, fn)
        assert row["boundary_pq"] == iou / (tp + 0.5 * fp + 0.5 * fn)
        assert row["boundary_sq"] == iou / tp


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=120)
def test_counts_are_those_of_loops_over_segments(seed, height, width):
    truth, prediction = oracle.panoptic_scene(seed, height, width)
    expected = oracle.panoptic_quality(truth[0], prediction[0], truth[1], prediction[1])
    rows = boundary_scores(counted(truth, prediction), COCO)["per_class"]
    for category, row in zip(TABLE.category_ids, rows, strict=True):
        iou, tp, fp, fn = expected.get(category, (0, 0, 0, 0))
        assert (row["boundary_tp"], row["boundary_fp"], row["boundary_fn"]) == (tp, fp, fn)
        if tp + fp + fn:
            quality = float(iou) / (tp + fp / 2 + fn / 2)
            assert row["boundary_pq"] == pytest.approx(quality, abs=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_a_map_scores_one_on_itself(seed, height, width):
    (ids, segments), _ = oracle.panoptic_scene(seed, height, width)
    plain = [{**segment, "iscrowd": 0} for segment in segments]
    found = boundary_scores(counted((ids, plain), (ids, plain)), COCO)
    assert found["boundary_pq"] == (1.0 if plain else None)


def test_boundary_pq_is_at_most_pq_and_leaves_it_alone(counts):
    merged = panoptic.merge(counts)
    scores, found = panoptic.scores(merged, COCO), boundary_scores(merged, COCO)
    assert 0 < found["boundary_pq"] < scores["pq"] < 1
    plain = panoptic.scores(panoptic.merge([_without(part) for part in counts]), COCO)
    assert plain == scores


def _without(part):
    return panoptic.PanopticCounts(
        part.category_ids, part.isthing, part.image_ids, part.positions,
        part.matches[:, :6], part.errors,
    )  # fmt: skip


def test_any_order_and_split_gives_the_same_bits(counts, tmp_path):
    expected = boundary_scores(panoptic.merge(counts), COCO)
    order = np.random.default_rng(0).permutation(len(counts))
    shards = [panoptic.merge([counts[i] for i in part]) for part in np.array_split(order, 7)]
    merged = panoptic.merge(shards)
    assert boundary_scores(merged, COCO) == expected
    save_counts(tmp_path / "counts.npz", {"panoptic": merged})
    stored = load_counts(tmp_path / "counts.npz")
    assert boundary_scores(stored["panoptic"], COCO) == expected


def test_weights_draw_images(counts):
    merged = panoptic.merge(counts)
    found = statistic({"panoptic": merged}, COCO, "boundary_pq")
    assert found.estimate == pytest.approx(boundary_scores(merged, COCO)["boundary_pq"], abs=1e-12)
    weights = np.zeros((1, 40))
    weights[0, [3, 17]] = 1
    part = boundary_scores(merged.subset([3, 17]), COCO)["boundary_pq"]
    assert found.evaluate(weights)[0] == pytest.approx(part, abs=1e-12)


def test_a_match_that_falls_away_may_be_excused():
    """A match by mask but not by boundary, most of it on void: a miss, but nothing false."""
    truth = np.zeros((200, 200), dtype=np.int32)
    truth[20:180, 20:60] = 5
    prediction = np.zeros_like(truth)
    prediction[20:180, 20:180] = 9
    prediction[32:168, 30:50] = 0
    segments = [{"id": 5, "category_id": 3, "iscrowd": 0}]
    guesses = [{"id": 9, "category_id": 3}]
    expected = oracle.panoptic_quality(truth, prediction, segments, guesses)
    assert expected[3][1:] == [0, 0, 1]
    counts = counted((truth, segments), (prediction, guesses))
    assert panoptic.scores(counts, COCO)["per_class"][0]["tp"] == 1
    row = boundary_scores(counts, COCO)["per_class"][0]
    assert (row["boundary_tp"], row["boundary_fp"], row["boundary_fn"]) == (0, 0, 1)


def test_counts_without_boundaries_have_no_boundary_score(counts):
    plain = _without(counts[0])
    assert boundary_scores(plain, COCO) == {}
    for ask in (
        lambda: boundary_view(plain),
        lambda: statistic({"panoptic": plain}, COCO, "boundary_pq"),
    ):
        with pytest.raises(ConfigError, match="boundaries were not counted") as caught:
            ask()
        assert "--boundary" in caught.value.fix
