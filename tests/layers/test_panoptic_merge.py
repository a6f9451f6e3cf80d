"""The combine rule against a slow version written pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.core.types import VOID, Category, CategoryTable, Instances, PanopticMap
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.layers.panoptic_merge import merge_panoptic, panoptic_labels

THINGS, STUFF = 3, 2


def make_instances(masks: np.ndarray, labels: list[int], scores: list[float]) -> Instances:
    return Instances(
        masks=masks.astype(bool),
        labels=np.array(labels, dtype=np.int64),
        boxes=np.zeros((len(labels), 4), dtype=np.float32),
        scores=np.array(scores, dtype=np.float32),
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Instances, np.ndarray]:
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 5))
    masks = rng.random((count, height, width)) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    scores = rng.choice([0.1, 0.3, 0.5, 0.5, 0.9], count).tolist()
    labels = rng.integers(1, THINGS + 1, count).tolist()
    stuff = rng.choice([0, 2, 3, 4, 255], (height, width)).astype(np.uint8)
    return make_instances(masks, labels, scores), stuff


def slow_merge(
    instances: Instances, stuff: np.ndarray, score: float, overlap: float, limit: int
) -> tuple[dict[tuple[int, int], int], list[tuple[int, int]]]:
    """Return the segment number of each painted pixel and (label, area) of each segment."""
    painted: dict[tuple[int, int], int] = {}
    segments: list[tuple[int, int]] = []
    assert instances.scores is not None
    pairs = sorted(enumerate(instances.scores.tolist()), key=lambda pair: (-pair[1], pair[0]))
    for index, value in pairs:
        pixels = [tuple(p) for p in np.argwhere(instances.masks[index]).tolist()]
        free = [p for p in pixels if p not in painted]
        if value < score or not pixels or not free:
            continue
        if (len(pixels) - len(free)) / len(pixels) > overlap:
            continue
        segments.append((int(instances.labels[index]) - 1, len(free)))
        painted.update(dict.fromkeys(free, len(segments)))
    for label in range(THINGS, THINGS + STUFF):
        pixels = [tuple(p) for p in np.argwhere(stuff == label).tolist()]
        free = [p for p in pixels if p not in painted]
        if free and len(free) >= limit:
            segments.append((label, len(free)))
            painted.update(dict.fromkeys(free, len(segments)))
    return painted, segments


@settings(max_examples=300, deadline=None)
@given(
    scene=scenes(),
    score=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    limit=st.integers(0, 12),
)
def test_merge_equals_the_slow_version(
    scene: tuple[Instances, np.ndarray], score: float, overlap: float, limit: int
) -> None:
    instances, stuff = scene
    found = merge_panoptic(
        instances,
        stuff,
        num_things=THINGS,
        score_threshold=score,
        overlap_threshold=overlap,
        stuff_area=limit,
    )
    painted, segments = slow_merge(instances, stuff, score, overlap, limit)
    expected = np.full(stuff.shape, VOID)
    for pixel, number in painted.items():
        expected[pixel] = number
    np.testing.assert_array_equal(found.ids, expected)
    assert [(s.label, s.area) for s in found.segments] == segments
    assert [s.id for s in found.segments] == list(range(1, len(segments) + 1))
    assert all(s.isthing == (s.label < THINGS) == (s.score is not None) for s in found.segments)


def panoptic_quality(truth: np.ndarray, labels: np.ndarray, found: PanopticMap) -> float:
    table = CategoryTable(tuple(Category(i, str(i), i < THINGS, (0, 0, 0)) for i in range(5)))
    truth_segments = [
        {"id": int(i) + 1, "category_id": int(labels[truth == i][0]), "iscrowd": 0}
        for i in np.unique(truth)
    ]
    predicted = [{"id": s.id, "category_id": s.label} for s in found.segments]
    counts = panoptic.count(
        truth + 1,
        found.ids,
        truth_segments=truth_segments,
        predicted_segments=predicted,
        categories=table,
    )
    return float(panoptic.scores(counts, get_protocol("coco-panoptic"))["pq"])


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_truth_in_gives_truth_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, (8, 8))
    truth_labels = np.array([0, 0, 1, 2, 3, 4], dtype=np.uint8)[truth]
    masks = np.stack([truth == i for i in range(4)])
    instances = make_instances(masks, [1, 1, 2, 3], [0.9, 0.8, 0.7, 0.6])
    found = merge_panoptic(instances, truth_labels, num_things=THINGS, stuff_area=1)
    np.testing.assert_array_equal(
        panoptic_labels(found, np.full_like(truth_labels, 255)), truth_labels
    )
    for segment in found.segments:
        assert len(np.unique(truth[found.ids == segment.id])) == 1
    assert len(found.segments) == len(np.unique(truth))
    assert panoptic_quality(truth, truth_labels, found) == 1.0


def test_labels_of_void_are_the_background() -> None:
    stuff = np.array([[3, 3, 4], [0, 255, 3]], dtype=np.uint8)
    nothing = make_instances(np.zeros((0, 2, 3)), [], [])
    found = merge_panoptic(nothing, stuff, num_things=THINGS, stuff_area=2)
    np.testing.assert_array_equal(found.ids, [[1, 1, 0], [0, 0, 1]])
    background = np.full((2, 3), 4, dtype=np.uint8)
    np.testing.assert_array_equal(panoptic_labels(found, background), [[3, 3, 4], [4, 4, 3]])


def test_instances_without_scores_are_refused() -> None:
    truth = Instances(
        np.zeros((0, 2, 2), bool), np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
    )
    with pytest.raises(ValueError, match="score"):
        merge_panoptic(truth, np.zeros((2, 2), np.uint8), num_things=THINGS)
