"""Boundary IoU and boundary F of label maps against erosion and distances between pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation.boundary.contours import contour_map, contour_tolerance
from segbench.evaluation.boundary_scores import boundary_scores
from segbench.evaluation.counts import load_counts, save_counts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.resampled import statistic
from segbench.evaluation.scores import score_parts
from segbench.evaluation.semantic import counts as semantic
from tests.evaluation import boundary_oracle as oracle

POOLED = get_protocol("semantic-pooled")
CLASSES = 3


@st.composite
def pairs(draw, most=40):
    """Label maps of classes 0 to 2 and void 255, the prediction often a shifted truth."""
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    truth = label_map(rng, height, width)
    moved = np.roll(truth, rng.integers(-2, 3, 2), axis=(0, 1))
    return truth, moved if rng.integers(0, 3) else label_map(rng, height, width)


def label_map(rng, height, width):
    labels = oracle.blobs(rng, height, width, int(rng.integers(1, 6))) % 4
    return np.where(labels == 3, 255, labels).astype(np.uint8)


def counted(truth, prediction, image_id=0):
    return semantic.count(truth, prediction, num_classes=CLASSES, image_id=image_id, boundary=True)


def expected_iou(images, label, *, void_truth="ignored", void_prediction="miss"):
    """The rule on whole maps: pooled pixels of both boundaries, by erosion."""
    shared = either = 0
    for truth, prediction in images:
        ours = oracle.boundary_of(truth == label)
        theirs = oracle.boundary_of(prediction == label)
        if void_truth == "ignored":
            theirs = theirs & (truth != 255)
        if void_prediction == "ignored":
            ours = ours & (prediction != 255)
        shared += int((ours & theirs).sum())
        either += int((ours | theirs).sum())
    return float(Fraction(shared, either)) if either else None


@given(st.lists(pairs(), min_size=1, max_size=3))
@settings(deadline=None, max_examples=80)
def test_boundary_iou_is_that_of_eroded_classes(images):
    counts = semantic.merge([counted(*image, i) for i, image in enumerate(images)])
    for void_truth in ("ignored", "false_positive"):
        for void_prediction in ("miss", "ignored"):
            rule = {"void_truth": void_truth, "void_prediction": void_prediction}
            found = boundary_scores(counts, replace(POOLED, **rule))
            values = [expected_iou(images, label, **rule) for label in range(CLASSES)]
            assert [row["boundary_iou"] for row in found["per_class"]] == values
            known = [value for value in values if value is not None]
            mean = math.fsum(known) / len(known) if known else None
            assert found["boundary_miou"] == pytest.approx(mean, abs=1e-12)


@given(st.lists(pairs(), min_size=1, max_size=2))
@settings(deadline=None, max_examples=30)
def test_void_as_a_class_has_a_boundary_too(images):
    counts = semantic.merge([counted(*image, i) for i, image in enumerate(images)])
    found = boundary_scores(counts, replace(POOLED, void_class=True))["per_class"]
    rule = {"void_truth": "false_positive", "void_prediction": "miss"}
    values = [expected_iou(images, label, **rule) for label in (0, 1, 2, 255)]
    assert [row["boundary_iou"] for row in found] == values


@given(st.lists(pairs(most=24), min_size=1, max_size=2))
@settings(deadline=None, max_examples=30)
def test_boundary_f_is_that_of_distances_between_pixels(images):
    counts = semantic.merge([counted(*image, i) for i, image in enumerate(images)])
    found = boundary_scores(counts, POOLED)
    for label, row in enumerate(found["per_class"]):
        values = [oracle.contour_f(*image, label, void=255) for image in images]
        known = [value for value in values if value is not None]
        mean = math.fsum(known) / len(known) if known else None
        assert row["boundary_f"] == pytest.approx(mean, abs=1e-12)


def test_boundary_f_at_a_tolerance_of_several_pixels():
    rng = np.random.default_rng(3)
    truth = label_map(rng, 210, 280)
    prediction = np.roll(truth, (2, 2), axis=(0, 1))
    assert contour_tolerance(210, 280) == pytest.approx(2.625)
    rows = boundary_scores(counted(truth, prediction), POOLED)["per_class"]
    values = [oracle.contour_f(truth, prediction, label, void=255) for label in range(CLASSES)]
    assert [row["boundary_f"] for row in rows] == pytest.approx(values, abs=1e-12)
    assert all(0 < value < 1 for value in values[:2])


@given(pairs())
@settings(deadline=None, max_examples=40)
def test_a_map_scores_one_on_itself_and_sides_may_be_exchanged(pair):
    truth, prediction = (np.minimum(labels, 2) for labels in pair)
    own = boundary_scores(counted(truth, truth), POOLED)
    assert own["boundary_miou"] == 1.0
    assert own["boundary_f"] == (1.0 if contour_map(truth).any() else None)
    found = boundary_scores(counted(truth, prediction), POOLED)
    swapped = boundary_scores(counted(prediction, truth), POOLED)
    assert found == swapped


@pytest.fixture(scope="module")
def merged():
    rng = np.random.default_rng(8)
    parts = []
    for image_id in range(9):
        truth = label_map(rng, 50, 60)
        parts.append(counted(truth, np.roll(truth, (1, 2), axis=(0, 1)), image_id))
    return parts


@pytest.mark.parametrize("name", ["semantic-pooled", "torchmetrics-pooled", "camvid-12", "mmseg"])
def test_any_split_subset_and_storage_gives_the_same_bits(merged, name, tmp_path):
    protocol = replace(get_protocol(name), num_classes=None)
    expected = boundary_scores(semantic.merge(merged), protocol)
    shards = [semantic.merge(merged[:4]), merged[4], semantic.merge(merged[5:])]
    joined = semantic.merge(shards)
    assert boundary_scores(joined, protocol) == expected
    save_counts(tmp_path / "counts.npz", {"semantic": joined})
    stored = load_counts(tmp_path / "counts.npz")
    assert boundary_scores(stored["semantic"], protocol) == expected
    part = boundary_scores(semantic.merge([merged[1], merged[6]]), protocol)
    assert boundary_scores(joined.subset([1, 6]), protocol) == part


@pytest.mark.parametrize("metric", ["boundary_miou", "boundary_f"])
@pytest.mark.parametrize("averaging", ["pooled", "per_image"])
def test_weights_draw_images(merged, metric, averaging):
    protocol = replace(POOLED, averaging=averaging)
    joined = semantic.merge(merged)
    found = statistic({"semantic": joined}, protocol, metric)
    assert found.estimate == pytest.approx(boundary_scores(joined, protocol)[metric], abs=1e-12)
    weights = np.zeros((2, 9))
    weights[0, [2, 5]] = 1
    weights[1, 4] = 7
    parts = [joined.subset([2, 5]), joined.subset([4])]
    values = [boundary_scores(part, protocol)[metric] for part in parts]
    assert found.evaluate(weights).tolist() == pytest.approx(values, abs=1e-12)


def test_a_class_has_its_own_statistic(merged):
    joined = semantic.merge(merged)
    rows = boundary_scores(joined, POOLED)["per_class"]
    for key in ("boundary_iou", "boundary_f"):
        for label, row in enumerate(rows):
            found = statistic({"semantic": joined}, POOLED, f"{key}.{label}")
            assert found.estimate == pytest.approx(row[key], abs=1e-12)


def test_the_other_scores_stay_as_they_are(merged):
    joined = semantic.merge(merged)
    plain = replace(joined, boundary=None)
    with_boundaries = score_parts({"semantic": joined}, POOLED)
    without = score_parts({"semantic": plain}, POOLED)
    assert {k: with_boundaries[k] for k in without if k != "per_class"} == {
        k: v for k, v in without.items() if k != "per_class"
    }
    for row, other in zip(with_boundaries["per_class"], without["per_class"], strict=True):
        assert {k: row[k] for k in other} == other
        assert row.keys() - other.keys() == {"boundary_iou", "boundary_f"}


def test_what_cannot_be_done_is_said(merged):
    plain = replace(merged[0], boundary=None)
    with pytest.raises(DataError, match="with and without boundaries"):
        semantic.merge([plain, merged[1]])
    with pytest.raises(ConfigError, match="boundaries were not counted"):
        statistic({"semantic": plain}, POOLED, "boundary_f")
    labels = np.zeros((4, 4), dtype=np.uint8)
    with pytest.raises(ConfigError, match="at most 253"):
        semantic.count(labels, labels, num_classes=254, boundary=True)
