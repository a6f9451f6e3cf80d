"""Intervals and comparisons: closed forms, plain loops, coverage by simulation."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats as scipy_stats

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation import resampled
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic.scores import scores as semantic_scores
from segbench.statistics import comparison as stats
from segbench.statistics import intervals
from segbench.statistics.bootstrap import resample_weights
from tests.statistics.made_counts import (
    from_tables,
    instance_counts,
    panoptic_counts,
    semantic_counts,
)

POOLED = get_protocol("semantic-pooled")


def run(seed=0, **options):
    return {"semantic": semantic_counts(seed, **options)}


def accuracies(right, size=100):
    """Images of one size and two classes; image i has right[i] correct pixels."""
    right = np.asarray(right)
    tables = np.zeros((len(right), 3, 3), dtype=np.int64)
    tables[:, 0, 0], tables[:, 0, 1] = right, size - right
    return {"semantic": from_tables(tables)}


def test_draws_are_multinomial_and_the_same_for_everybody():
    weights = resample_weights(40, 2000, 0)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.mean() == pytest.approx(1, abs=1e-12)
    assert weights.var() == pytest.approx(1 - 1 / 40, rel=0.02)
    assert np.array_equal(weights, resample_weights.__wrapped__(40, 2000, 0))
    assert not np.array_equal(weights, resample_weights(40, 2000, 1))


def test_interval_of_an_accuracy_is_that_of_a_mean():
    """Equal images: pixel accuracy is a mean, so scipy's BCa and the t interval apply."""
    right = np.random.default_rng(1).binomial(100, 0.8, 400)
    found = intervals.interval(accuracies(right), POOLED, "pixel_accuracy", resamples=9999)
    peer = scipy_stats.bootstrap(
        (right / 100,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    sd = right.std(ddof=1) / 100 / math.sqrt(400)
    assert found.estimate == pytest.approx(right.mean() / 100, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.15 * sd)
    exact = scipy_stats.t.interval(0.95, 399, found.estimate, sd)
    assert (found.low, found.high) == pytest.approx(exact, abs=0.15 * sd)


def test_percentiles_equal_a_loop_over_resampled_images():
    counts = semantic_counts(3, images=10, classes=3)
    images = counts.images()
    values = []
    for weights in resample_weights(10, 199, 0):
        copies = [image for image, n in zip(images, weights, strict=True) for _ in range(n)]
        values.append(semantic_scores(semantic.merge(copies), POOLED)["miou"])
    found = intervals.interval(
        {"semantic": counts}, POOLED, "miou", resamples=199, method="percentile"
    )
    tail = scipy_stats.norm.cdf(scipy_stats.t.ppf(0.025, 9) * math.sqrt(10 / 9))
    rank = math.floor(200 * tail)
    ordered = sorted(values)
    assert found.low == pytest.approx(ordered[rank - 1], abs=1e-12)
    assert found.high == pytest.approx(ordered[200 - rank - 1], abs=1e-12)


SIZES = {"panoptic": 20_000, "segm": 3000}
"""Images of a population, 5000 of others."""
CASES = [
    (semantic_counts, "semantic", "semantic-pooled", "miou", 1200),
    (semantic_counts, "semantic", "semantic-pooled", "pixel_accuracy", 1200),
    (panoptic_counts, "panoptic", "coco-panoptic", "pq", 1200),
    (instance_counts, "segm", "coco-instances", "ap", 250),
]


def coverage(make, part, protocol, metric, rounds, images=100):
    """Return the share of samples of a large population whose interval holds its score."""
    population = make(1, images=SIZES.get(part, 5000))
    truth = resampled.statistic({part: population}, protocol, metric).estimate
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(rounds):
        sample = pick(population, rng.choice(len(population.image_ids), images, replace=False))
        found = intervals.interval({part: sample}, protocol, metric, resamples=600, seed=seed // 60)
        held += found.low <= truth <= found.high
    return held / rounds


def pick(counts, chosen):
    """Return some images; faster than ``subset`` for a large population."""
    if hasattr(counts, "_take"):
        return counts._take(chosen.tolist())
    bounds = np.searchsorted(counts.entries[:, 0], [chosen, chosen + 1])
    parts = [counts.entries[a:b].copy() for a, b in bounds.T]
    for place, part in enumerate(parts):
        part[:, 0] = place
    return semantic.SemanticCounts(
        counts.num_classes, tuple(chosen.tolist()), np.concatenate(parts)
    )


@pytest.mark.parametrize(("make", "part", "protocol", "metric", "rounds"), CASES)
def test_intervals_of_95_percent_hold_the_truth_93_to_97_times(
    make, part, protocol, metric, rounds
):
    assert 0.93 <= coverage(make, part, get_protocol(protocol), metric, rounds) <= 0.97


def test_intervals_of_ap_hold_the_score_and_lie_below_the_draws():
    """AP of few images is too high, and draws of them are so again."""
    for seed in range(5):
        parts = {"segm": instance_counts(seed, images=30, classes=12)}
        found = intervals.interval(parts, get_protocol("coco-instances"), "ap")
        draws = intervals.interval(parts, get_protocol("coco-instances"), "ap", method="percentile")
        assert found.method == "student"
        assert 0 < found.low < found.estimate <= found.high < 1
        assert found.low < draws.low
        assert found.high < draws.high


def test_equal_runs_are_rarely_separable():
    """Two predictions of one skill on samples of images: 3 to 7 of 100 comparisons reject."""
    first, second = (semantic_counts(seed, images=5000) for seed in (1, 2))
    rng, wrong, rounds = np.random.default_rng(4), 0, 800
    for seed in range(rounds):
        chosen = rng.choice(5000, 60, replace=False)
        rows = [{"semantic": pick(counts, chosen)} for counts in (first, second)]
        wrong += stats.compare(*rows, POOLED, "miou", resamples=600, seed=seed // 60).separable
    assert 0.03 <= wrong / rounds <= 0.07


def test_pairing_sees_what_two_intervals_cannot():
    hard = np.random.default_rng(0).integers(20, 80, 50)
    better, worse = accuracies(hard + 2), accuracies(hard)
    found = stats.compare(better, worse, POOLED, "pixel_accuracy")
    assert found.difference == pytest.approx(0.02)
    assert found.separable
    ends = [intervals.interval(each, POOLED, "pixel_accuracy") for each in (better, worse)]
    assert ends[1].high > ends[0].low


def test_a_run_ties_with_itself():
    found = stats.compare(run(3, images=40), run(3, images=40), POOLED, "miou")
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1.0)
    assert not found.separable


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.5, 0.8),
    st.sampled_from([0.8, 0.95, 0.99]), st.sampled_from(["bca", "percentile"]),
)  # fmt: skip
def test_p_interval_and_verdict_agree(seed_a, seed_b, skill, level, method):
    a, b = run(seed_a, skill=skill), run(seed_b)
    options = {"level": level, "method": method, "resamples": 300}
    found = stats.compare(a, b, POOLED, "miou", **options)
    assert found.separable == (found.low > 0 or found.high < 0) == (found.p <= 1 - level)
    assert found.low <= found.high
    mirrored = stats.compare(b, a, POOLED, "miou", **options)
    assert mirrored.difference == -found.difference
    assert mirrored.p == pytest.approx(found.p, abs=1e-9)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 0.9), st.sampled_from(["miou", "iou.1", "fwiou"]))
def test_intervals_are_nested_and_repeatable(seed, skill, metric):
    counts = run(seed, skill=skill, images=40)
    wide = intervals.interval(counts, POOLED, metric, level=0.95, resamples=300)
    narrow = intervals.interval(counts, POOLED, metric, level=0.5, resamples=300)
    assert wide == intervals.interval(counts, POOLED, metric, level=0.95, resamples=300)
    assert 0 <= wide.low <= narrow.low <= narrow.high <= wide.high <= 1


def test_perfect_runs_have_no_spread():
    found = intervals.interval(accuracies([100] * 12), POOLED, "pixel_accuracy")
    assert (found.low, found.estimate, found.high) == (1.0, 1.0, 1.0)


def test_seeds_are_averaged_and_their_spread_kept_apart():
    seeds = [run(seed) for seed in (1, 2, 3)]
    each = [intervals.interval(counts, POOLED, "miou").estimate for counts in seeds]
    mean = intervals.interval(seeds, POOLED, "miou")
    assert mean.estimate == pytest.approx(np.mean(each), abs=1e-12)
    spread = intervals.seed_spread([*each, None])
    assert (spread.mean, spread.n) == (pytest.approx(np.mean(each)), 3)
    assert spread.sd == pytest.approx(np.std(each, ddof=1))
    assert intervals.seed_spread([0.5]) == intervals.SeedSpread(0.5, None, 1)
    assert intervals.seed_spread([None]) == intervals.SeedSpread(None, None, 0)


def test_a_score_without_value_has_no_interval():
    tables = np.zeros((12, 4, 4), dtype=np.int64)
    tables[:, 0, 0] = 5
    counts = {"semantic": from_tables(tables)}
    found = intervals.interval(counts, POOLED, "iou.2")
    assert (found.low, found.high, found.estimate, found.resamples) == (None, None, None, 0)
    with pytest.raises(DataError, match=r"iou\.2 of 'A' has no value"):
        stats.compare(counts, counts, POOLED, "iou.2")


def test_a_class_on_one_image_leaves_resamples_without_value():
    tables = np.zeros((12, 3, 3), dtype=np.int64)
    tables[:, 0, 0] = 5
    tables[3, 1, 1] = 5
    found = intervals.interval({"semantic": from_tables(tables)}, POOLED, "iou.1")
    assert found.resamples == np.count_nonzero(resample_weights(12, 1000, 0)[:, 3])
    undefined = get_protocol("torchvision")
    tables[:, 1, 1] = 0
    tables[3, 1, 1] = 5
    assert intervals.interval({"semantic": from_tables(tables)}, undefined, "miou").resamples < 700


def test_different_images_truths_and_too_few_images_are_refused():
    other = {"semantic": run()["semantic"].subset(range(1, 12))}
    with pytest.raises(DataError, match=r"12 and 11, of which 1 are in one only, first \[12\]"):
        stats.compare(run(), other, POOLED, "miou")
    with pytest.raises(DataError, match="different truths, first at image"):
        stats.compare(run(), run(truth_seed=1), POOLED, "miou")
    with pytest.raises(DataError, match="number of classes differs"):
        stats.compare(run(), run(classes=5), POOLED, "miou")
    with pytest.raises(DataError, match="8 images are too few"):
        intervals.interval(run(images=8), POOLED, "miou")
    with pytest.raises(DataError, match="no counts to resample"):
        intervals.interval([], POOLED, "miou")


@pytest.mark.parametrize(("level", "text"), [(1.0, "between 0 and 1"), (0.9999, "too few for")])
def test_impossible_levels_are_refused(level, text):
    with pytest.raises(ConfigError, match=text):
        intervals.interval(run(), POOLED, "miou", level=level)


def test_headline_intervals_are_what_a_record_holds():
    found = intervals.headline_intervals(run(images=40), POOLED)
    assert set(found["miou"]) == {"low", "high", "level", "method", "resamples"}
    assert found["miou"]["resamples"] == stats.RESAMPLES
    assert intervals.headline_intervals(run(images=9), POOLED) == {}
    parts = {
        "segm": instance_counts(0, images=40),
        "bbox": instance_counts(1, images=40, iou_type="bbox"),
    }
    ap = intervals.headline_intervals(parts, get_protocol("coco-instances"))["ap"]
    direct = intervals.interval(parts, get_protocol("coco-instances"), "ap")
    assert (ap["low"], ap["high"]) == (direct.low, direct.high)
