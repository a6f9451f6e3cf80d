"""Scores of weighted images against the scores of images drawn that often."""

from dataclasses import replace

import numpy as np
import pytest

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation.instance import counts as instance
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol, protocols
from segbench.evaluation.resampled import statistic
from segbench.evaluation.scores import score_parts
from segbench.evaluation.semantic import counts as semantic
from tests.statistics.made_counts import instance_counts, panoptic_counts, semantic_counts

MODULES = {"semantic": semantic, "panoptic": panoptic, "segm": instance, "bbox": instance}


def drawn(part, counts, draws):
    """Build the counts of images drawn with replacement, each copy under an id of its own."""
    copies = []
    for new_id, old in enumerate(draws):
        one = counts.subset([counts.image_ids[old]])
        one = replace(one, image_ids=(new_id,))
        copies.append(replace(one, positions=np.array([new_id])) if part == "panoptic" else one)
    return MODULES[part].merge(copies)


def check(parts, protocol, metrics, *, draws=4):
    """Compare the fast path with resampled counts, and weights of one with the scores."""
    counts = next(iter(parts.values()))
    number = len(counts.image_ids)
    rng = np.random.default_rng(5)
    chosen = [np.sort(rng.integers(0, number, number)) for _ in range(draws)]
    weights = np.stack([np.bincount(draw, minlength=number) for draw in chosen]).astype(float)
    expected = [
        score_parts({p: drawn(p, c, d) for p, c in parts.items()}, protocol) for d in chosen
    ]
    whole = score_parts(parts, protocol)
    for metric in metrics:
        fast = statistic(parts, protocol, metric)
        assert_same(fast.evaluate(weights), [pick(scores, metric) for scores in expected], metric)
        assert_same([fast.estimate], [pick(whole, metric)], metric)


def pick(scores, metric):
    key, _, index = metric.partition(".")
    return scores["per_class"][int(index)][key] if index else scores[key]


def assert_same(found, expected, metric):
    expected = [np.nan if value is None else value for value in expected]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=metric)


SEMANTIC = ("miou", "mean_dice", "pixel_accuracy", "mean_accuracy", "fwiou", "iou.2", "dice.0",
            "accuracy.3")  # fmt: skip
FREE = [p for p in protocols(task="semantic") if p.num_classes is None]


@pytest.mark.parametrize("protocol", FREE, ids=lambda p: p.id)
def test_semantic_resamples_equal_drawn_images(protocol):
    counts = semantic_counts(1, images=7, void=protocol.void_prediction != "refused")
    check({"semantic": counts}, protocol, SEMANTIC)


@pytest.mark.parametrize("name", ["camvid-12", "camvid-11-void-as-fp", "camvid-11-void-dropped"])
def test_void_rules_of_resamples(name):
    protocol = replace(get_protocol(name), num_classes=4)
    check({"semantic": semantic_counts(2, images=6, void=True)}, protocol, SEMANTIC)


def test_official_score_of_resamples():
    protocol = replace(get_protocol("ade20k-150"), num_classes=4)
    check({"semantic": semantic_counts(3, images=3)}, protocol, ["official_score", "miou"])


def test_classes_missing_from_a_resample():
    counts = semantic_counts(4, images=3, classes=6)
    for protocol in FREE:
        check({"semantic": counts}, protocol, ["miou", "iou.5", "mean_accuracy"], draws=20)


def test_panoptic_resamples_equal_drawn_images():
    keys = [key + group for key in ("pq", "sq", "rq") for group in ("", "_things", "_stuff")]
    check({"panoptic": panoptic_counts(1, images=5)}, get_protocol("coco-panoptic"),
          [*keys, "pq.0", "sq.3", "rq.4"], draws=8)  # fmt: skip


AP = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100",
      "ar_small", "ar_medium", "ar_large", "ap55", "ap95", "ap.0", "ap50.1", "ap75.2", "ap60.0",
      "ap_small.1", "ar_1.2", "ar_100.0")  # fmt: skip


@pytest.mark.parametrize("images", [3, 9])
def test_average_precision_of_resamples_is_pycocotools(images):
    parts = {"segm": instance_counts(images, images=images)}
    check(parts, get_protocol("coco-instances"), AP, draws=6)


def test_boxes_have_their_own_metrics():
    parts = {"segm": instance_counts(1), "bbox": instance_counts(2, iou_type="bbox")}
    check(parts, get_protocol("coco-instances"), ["ap", "box_ap", "box_ap50", "box_ap.1"], draws=2)


def test_no_detections_score_zero_and_no_truth_has_no_score():
    counts = instance_counts(0, skill=0.0)
    nothing = counts.scores[:0], counts.matched[:, :, :0], counts.ignored[:, :, :0]
    cells = counts.cells * np.array([1, 1, 0, 1])
    empty = replace(counts, cells=cells, scores=nothing[0], matched=nothing[1], ignored=nothing[2])
    protocol = get_protocol("coco-instances")
    assert statistic({"segm": empty}, protocol, "ap").estimate == 0.0
    crowds = replace(empty, truth_ignored=np.ones_like(empty.truth_ignored))
    assert np.isnan(statistic({"segm": crowds}, protocol, "ap").estimate)


def test_columns_follow_the_image_ids_not_the_order_of_counting():
    counts = semantic_counts(3)
    shuffled = semantic.merge(counts.images()[::-1])
    protocol = get_protocol("semantic-pooled")
    weights = np.random.default_rng(0).integers(0, 3, (5, 12)).astype(float)
    one, other = (statistic({"semantic": c}, protocol, "miou") for c in (counts, shuffled))
    assert one.image_ids == other.image_ids == tuple(sorted(counts.image_ids))
    np.testing.assert_array_equal(one.evaluate(weights), other.evaluate(weights))


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("miuo", "Did you mean 'miou'?"),
        ("iou", "no metric 'iou'"),
        ("iou.9", "expected a class from 0 to 3"),
        ("iou.x", "found 'x'"),
        ("miou.1", "no metric 'miou.1'"),
        ("pq", "no metric 'pq'"),
    ],
)
def test_unknown_metrics_are_refused(metric, text):
    with pytest.raises(ConfigError, match=text.replace("?", r"\?")):
        statistic({"semantic": semantic_counts(0)}, get_protocol("semantic-pooled"), metric)


def test_protocols_refuse_counts_that_do_not_fit():
    parts = {"semantic": semantic_counts(0, void=True)}
    with pytest.raises(DataError, match="takes no void predictions"):
        statistic(parts, get_protocol("torchvision"), "miou")
    with pytest.raises(ConfigError, match="scores panoptic"):
        statistic(parts, get_protocol("coco-panoptic"), "miou")
    with pytest.raises(ConfigError, match="the counts are panoptic"):
        statistic({"panoptic": panoptic_counts(0)}, get_protocol("coco-instances"), "pq")
