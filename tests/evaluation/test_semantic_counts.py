"""Semantic counts against a loop over pixels, closed forms and published numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation.protocol import get_protocol, protocols
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic.scores import image_scores as semantic_image_scores
from segbench.evaluation.semantic.scores import scores as semantic_scores

POOLED = get_protocol("semantic-pooled")


@st.composite
def label_pairs(draw, num_classes=None):
    classes = num_classes or draw(st.integers(1, 6))
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    known = st.integers(0, classes - 1)
    truth = draw(arrays(np.uint8, shape, elements=known | st.just(255)))
    anything = known | st.integers(classes, 255)
    prediction = draw(
        arrays(draw(st.sampled_from([np.uint8, np.uint16])), shape, elements=anything)
    )
    return classes, truth, prediction


def slow_confusion(classes, truth, prediction):
    matrix = [[0] * (classes + 1) for _ in range(classes + 1)]
    for t, p in zip(truth.flat, prediction.flat, strict=True):
        matrix[min(int(t), classes)][min(int(p), classes)] += 1
    return matrix


def slow_scores(classes, matrix):
    """Per class (iou, dice, accuracy) and the five overall scores, from plain loops."""
    rows, total_hits, total = [], 0, 0
    weighted = 0.0
    for c in range(classes):
        hit = matrix[c][c]
        truth = sum(matrix[c])
        predicted = sum(matrix[t][c] for t in range(classes))
        union = truth + predicted - hit
        iou = hit / union if union else None
        dice = 2 * hit / (truth + predicted) if truth + predicted else None
        rows.append((iou, dice, hit / truth if truth else None))
        weighted += truth * (iou or 0)
        total_hits, total = total_hits + hit, total + truth
    means = [
        math.fsum(known) / len(known)
        if (known := [r[i] for r in rows if r[i] is not None])
        else None
        for i in range(3)
    ]
    accuracy = total_hits / total if total else None
    return rows, (*means, accuracy, weighted / total if total else None)


@given(label_pairs())
@settings(max_examples=150, deadline=None)
def test_equals_a_loop_over_pixels(case):
    classes, truth, prediction = case
    counts = semantic.count(truth, prediction, num_classes=classes)
    expected = slow_confusion(*case)
    assert counts.confusion.dtype == np.int64
    assert counts.confusion.tolist() == expected
    found = semantic_scores(counts, POOLED)
    rows, (miou, dice, mean_accuracy, accuracy, fwiou) = slow_scores(classes, expected)
    assert [(r["iou"], r["dice"], r["accuracy"]) for r in found["per_class"]] == rows
    assert (found["miou"], found["mean_dice"], found["mean_accuracy"]) == (
        miou,
        dice,
        mean_accuracy,
    )
    assert found["pixel_accuracy"] == accuracy
    assert found["fwiou"] == (None if fwiou is None else pytest.approx(fwiou, abs=1e-12))


@given(st.lists(label_pairs(4), min_size=1, max_size=5), st.randoms())
@settings(max_examples=60, deadline=None)
def test_any_split_gives_the_same_counts(cases, random):
    parts = [
        semantic.count(truth, prediction, num_classes=4, image_id=i)
        for i, (_, truth, prediction) in enumerate(cases)
    ]
    pooled = sum(np.array(slow_confusion(4, t, p)) for _, t, p in cases)
    shuffled = random.sample(parts, len(parts))
    whole = shuffled[0]
    for part in shuffled[1:]:
        whole = whole + part
    assert (whole.confusion == pooled).all()
    chosen = random.sample(range(len(parts)), random.randint(0, len(parts)))
    expected = sum((parts[i].confusion for i in chosen), np.zeros((5, 5), dtype=np.int64))
    assert (whole.subset(chosen).confusion == expected).all()
    for image in whole.images():
        assert (image.confusion == parts[image.image_ids[0]].confusion).all()


def test_a_large_noisy_image_is_exact():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 20, (512, 300)).astype(np.uint8)
    truth[truth == 19] = 255
    prediction = rng.integers(0, 25, truth.shape).astype(np.uint8)
    counts = semantic.count(truth, prediction, num_classes=19)
    folded = np.minimum(truth, 19).astype(np.int64) * 20 + np.minimum(prediction, 19)
    expected = [[int((folded == 20 * t + p).sum()) for p in range(20)] for t in range(20)]
    assert counts.confusion.tolist() == expected


def test_oracle_is_one_and_all_void_is_zero():
    truth = np.array([[0, 1, 255], [2, 2, 255]], dtype=np.uint8)
    perfect = semantic_scores(semantic.count(truth, truth, num_classes=3), POOLED)
    keys = ("miou", "mean_dice", "pixel_accuracy", "mean_accuracy", "fwiou")
    assert [perfect[key] for key in keys] == [1.0] * 5
    void = semantic.count(truth, np.full_like(truth, 255), num_classes=3)
    assert [semantic_scores(void, POOLED)[key] for key in keys] == [0.0] * 5


def test_only_void_has_no_score_rather_than_zero():
    truth = np.full((2, 2), 255, dtype=np.uint8)
    found = semantic_scores(semantic.count(truth, truth * 0, num_classes=2), POOLED)
    assert found["miou"] is None
    assert found["pixel_accuracy"] is None
    assert found["fwiou"] is None
    assert [row["iou"] for row in found["per_class"]] == [None, None]


def _absent_class_toy():
    """Five classes; 3 is predicted but never true, 4 is neither; IoUs 4/6, 3/4, 5/5."""
    truth = np.array([[0] * 5 + [1] * 4 + [2] * 5 + [255] * 3], dtype=np.uint8)
    prediction = np.array([[0] * 4 + [3] + [0] + [1] * 3 + [2] * 5 + [1] * 3], dtype=np.uint8)
    return semantic.count(truth, prediction, num_classes=5)


@pytest.mark.parametrize(
    ("rule", "divisor", "extra"),
    [("excluded", 4, 0), ("zero", 5, 0), ("one", 5, 1), ("truth_only", 3, 0)],
)
def test_absent_class_rules_differ_as_the_standard_tools_do(rule, divisor, extra):
    ious = (4 / 6, 3 / 4, 5 / 5)
    found = semantic_scores(_absent_class_toy(), replace(POOLED, absent_class=rule))
    assert found["miou"] == pytest.approx((sum(ious) + extra) / divisor, abs=1e-15)


def test_void_rules():
    truth = np.array([[0, 0, 0, 0, 255, 255, 255, 1]], dtype=np.uint8)
    prediction = np.array([[0, 0, 0, 255, 0, 255, 1, 1]], dtype=np.uint8)
    counts = semantic.count(truth, prediction, num_classes=2)

    def ious(**rules):
        rows = semantic_scores(counts, replace(POOLED, **rules))["per_class"]
        return [row["iou"] for row in rows]

    assert ious() == [3 / 4, 1.0]
    assert ious(void_prediction="ignored") == [1.0, 1.0]
    assert ious(void_truth="false_positive") == [3 / 5, 1 / 2]


def test_image_scores_are_those_of_the_image_alone():
    truth = np.array([[0, 0, 1, 1]], dtype=np.uint8)
    good = semantic.count(truth, truth, num_classes=3, image_id=1)
    bad = semantic.count(truth, truth[:, ::-1].copy(), num_classes=3, image_id=2)
    half = semantic.count(truth, truth * 0, num_classes=3, image_id=3)
    found = semantic_image_scores(semantic.merge([good, bad, half]))
    assert found == {
        1: {"miou": 1.0, "pixel_accuracy": 1.0},
        2: {"miou": 0.0, "pixel_accuracy": 0.0},
        3: {"miou": 0.25, "pixel_accuracy": 0.5},
    }


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (6,)])
def test_another_size_is_refused(shape):
    with pytest.raises(DataError, match=r"image 7.*3x2"):
        semantic.count(
            np.zeros((3, 2), dtype=np.uint8),
            np.zeros(shape, dtype=np.uint8),
            num_classes=2,
            image_id=7,
        )


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(np.uint8, 3), (np.uint8, 254), (np.uint16, 3), (np.uint16, 256), (np.int64, -1)],
)
def test_truth_outside_the_table_is_refused(dtype, value):
    truth = np.array([[0, value]], dtype=dtype)
    with pytest.raises(DataError, match=rf"train ids 0 to 2 or 255, found \[{value}\]"):
        semantic.count(truth, np.zeros((1, 2), dtype=np.uint8), num_classes=3)


def test_counts_of_other_label_sets_are_not_added():
    truth = np.zeros((1, 1), dtype=np.uint8)
    with pytest.raises(DataError, match=r"\[1, 2\]"):
        semantic.merge([semantic.count(truth, truth, num_classes=n) for n in (1, 2)])


def test_a_protocol_fits_or_is_refused():
    truth = np.zeros((1, 1), dtype=np.uint8)
    counts = semantic.count(truth, truth, num_classes=12)
    with pytest.raises(ConfigError, match="11 classes, the counts have 12"):
        semantic_scores(counts, get_protocol("camvid-11-void-ignored"))
    with pytest.raises(ConfigError, match="panoptic, not semantic"):
        semantic_scores(counts, get_protocol("coco-panoptic"))
    with pytest.raises(ConfigError, match="1 to 255"):
        semantic.count(truth, truth, num_classes=256)


def test_protocols_are_found_by_name_and_near_misses_named():
    assert [get_protocol(p.id) for p in protocols()] == list(protocols())
    with pytest.raises(ConfigError, match="Did you mean 'coco-panoptic'"):
        get_protocol("coco-panoptik")
    with pytest.raises(ConfigError, match="scores the semantic task, not instance"):
        get_protocol("semantic-pooled", task="instance")
