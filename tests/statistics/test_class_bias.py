"""Few images of a class: planted biases are found, intervals hold, or there is none and why."""

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.ratios import ClassMean
from segbench.evaluation.resampled import statistic
from segbench.statistics import comparison as stats
from segbench.statistics import intervals
from segbench.statistics.bootstrap import student
from segbench.statistics.small_sample_bias import fit_bias, images_of, refusal
from segbench.statistics.ties import tie_groups
from tests.statistics.made_counts import instance_counts, semantic_counts

PQ, COCO, POOLED = (get_protocol(n) for n in ("coco-panoptic", "coco-instances", "semantic-pooled"))
SHOWN = np.geomspace(0.6, 0.02, 20)
FOUND = np.random.default_rng(0).uniform(0.3, 0.9, 20)
"""Share of images that show each class of the planted world, and of its segments that are found."""


def world(seed, images):
    """One segment an image and class; a match has an IoU of 0.8, a miss a false positive."""
    rng = np.random.default_rng(seed)
    there = rng.random((images, 20)) < SHOWN
    hit = there & (rng.random(there.shape) < FOUND)
    wrong = (there & ~hit) | (rng.random(there.shape) < 0.3 * SHOWN)
    image, k = np.nonzero(hit)
    one = np.ones_like(image)
    false = np.argwhere(wrong | (there & ~hit))
    at = tuple(false.T)
    return PanopticCounts(
        tuple(range(1, 21)), np.ones(20, dtype=bool), tuple(range(images)), np.arange(images),
        np.column_stack([image, k, one, one, 80 * one, 100 * one]).astype(np.int64),
        np.column_stack([false, wrong[at], (there & ~hit)[at]]).astype(np.int64),
    )  # fmt: skip


def truth():
    """Return the PQ of all images: rates of matches, false positives and misses are known."""
    match, miss = SHOWN * FOUND, SHOWN * (1 - FOUND)
    false = miss + (1 - miss) * 0.3 * SHOWN
    return float(np.mean(0.8 * match / (match + 0.5 * false + 0.5 * miss)))


def test_the_planted_world_has_the_score_it_is_said_to_have():
    large = statistic({"panoptic": world(1, 40_000)}, PQ, "pq").estimate
    assert large == pytest.approx(truth(), abs=0.003)


def test_intervals_hold_the_truth_where_most_classes_are_on_few_images():
    held, bca, rounds = 0, 0, 300
    for seed in range(rounds):
        counts = {"panoptic": world([3, seed], 60)}
        found = intervals.interval(counts, PQ, "pq", resamples=200, seed=seed)
        held += found.low <= truth() <= found.high
        other = intervals.interval(counts, PQ, "pq", resamples=200, seed=seed, method="bca")
        bca += other.low <= truth() <= other.high
    assert 0.93 <= held / rounds <= 0.97
    assert bca / rounds < 0.92


def planted(slope, absent, images=200):
    """Classes whose score is off by slope / sqrt(images), and by ``absent`` on none."""
    rng = np.random.default_rng(4)
    shown = rng.random((images, 12)) < np.geomspace(0.9, 0.03, 12)

    def values(weights):
        m = images_of(weights, shown)
        return np.where(m > 0, 0.5 + slope / np.sqrt(np.maximum(m, 1)), 0.5 + absent)

    return ClassMean(values, shown, decay=0.5)


@pytest.mark.parametrize(("slope", "absent"), [(0.2, -0.3), (-0.1, 0.0), (0.0, -0.5)])
def test_a_planted_bias_is_found_to_the_last_digit(slope, absent):
    score = planted(slope, absent)
    bias = fit_bias(score)
    assert bias.slope == pytest.approx(slope, abs=1e-12)
    assert bias.absent == pytest.approx(absent, abs=0.06)
    assert bias.slope_scatter == pytest.approx(0, abs=1e-12)
    once = np.ones((1, 200))
    whole = score.values(once), images_of(once, score.shown)
    assert score(once)[0] - bias.of_mean(*whole)[0] == pytest.approx(0.5, abs=0.01)


def test_degrees_of_freedom_are_those_of_the_images_that_matter():
    even = np.tile([0.4, 0.6], 50)
    assert student(even, 0.5, even, 0.0).freedom == 99
    lone = np.full(100, 0.5)
    lone[7] = 0.6
    found = student(even, 0.5, lone, 0.0)
    assert found.freedom == pytest.approx(2.0, abs=0.1)
    low, high = found.ends(0.95, 0.0, 1.0)
    assert (low, high) == pytest.approx((0.085, 0.915), abs=0.01)


def test_p_agrees_with_the_interval_at_every_level():
    rng = np.random.default_rng(2)
    for centre in (0.0, 0.02, -0.05, 0.3):
        found = student(rng.normal(0, 0.1, 200), centre, rng.normal(0, 0.01, 50), 0.0)
        p = found.p_of_zero()
        for level in (0.5, 0.8, 0.95, 0.99):
            low, high = found.ends(level, -1.0, 1.0)
            assert (low > 0 or high < 0) == (p < 1 - level)
    assert student(np.zeros(9), 0.0, np.zeros(9), 0.0).p_of_zero() == 1
    assert student(np.zeros(9), 0.1, np.zeros(9), 0.0).p_of_zero() == 0


def test_too_few_images_a_class_give_no_interval_but_a_reason():
    parts = {"panoptic": world(5, 14)}
    found = intervals.interval(parts, PQ, "pq")
    assert (found.low, found.high) == (None, None)
    assert found.estimate is not None
    assert found.reason.startswith("too few images a class: ")
    assert found.reason.endswith("classes are on 10 images or more, 4 are needed")
    both = stats.compare(parts, parts, PQ, "pq")
    assert (both.low, both.high, both.p, both.separable) == (None, None, None, False)
    assert both.reason == found.reason
    record = intervals.headline_intervals(parts, PQ)["pq"]
    assert (record["low"], record["reason"]) == (None, found.reason)
    with pytest.raises(DataError, match="'a': too few images a class"):
        tie_groups({"a": parts, "b": parts}, PQ, "pq")
    assert tie_groups({"a": {"panoptic": world(5, 100)}}, PQ, "pq")[0].group == 0


def test_a_class_that_counts_though_it_is_nowhere_gives_no_interval():
    shown = np.ones((50, 4), dtype=bool)
    shown[:, 2] = False
    score = ClassMean(lambda weights: np.ones((len(weights), 4)), shown)
    assert refusal(score) is None
    absent = ClassMean(score.values, shown, absent=True)
    assert refusal(absent) == "1 of 4 classes are on no image"


def test_one_class_needs_ten_images():
    for images, enough in ((12, True), (10, True)):
        parts = {"segm": instance_counts(0, images=images, classes=1)}
        score = statistic(parts, COCO, "ap").evaluate
        assert (refusal(score) is None) == (enough and score.shown.sum() >= 10)


@pytest.mark.parametrize("metric", ["miou", "mean_dice", "mean_accuracy"])
def test_means_over_classes_are_the_scores_they_were(metric):
    parts = {"semantic": semantic_counts(0, images=40)}
    score = statistic(parts, POOLED, metric).evaluate
    weights = np.random.default_rng(0).integers(0, 3, (5, 40)).astype(float)
    assert isinstance(score, ClassMean)
    assert np.array_equal(score(weights), score.values(weights).mean(axis=1))
    pooled = get_protocol("torchvision")  # a class without a value leaves the mean without one
    assert not isinstance(statistic(parts, pooled, metric).evaluate, ClassMean)
