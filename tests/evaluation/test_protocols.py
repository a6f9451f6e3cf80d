"""Protocols: what they promise, against rules written out again pixel by pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import Category, CategoryTable
from segbench.evaluation.explain import distinct_rules, explain
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol, protocols
from segbench.evaluation.protocols.label_codes import UNKNOWN
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic.scores import scores as semantic_scores

PROMISED = {
    *("voc2012", "pascal-context-59", "pascal-context-60", "cityscapes-fine", "ade20k-150"),
    *("camvid-11-void-ignored", "camvid-11-void-as-fp", "camvid-12", "sunrgbd-37"),
    *("mapillary-v1.2", "coco-stuff", "coco-instances", "coco-panoptic", "cityscapes-panoptic"),
    *("mmseg", "detectron2", "torchvision", "paddleseg"),
    *("torchmetrics-pooled", "torchmetrics-per-image"),
}
IMAGES = (
    {"hits": (7, 21, 18), "missed": (2, 2, 5), "on_void": (0, 0, 0)},
    {"hits": (7, 24, 12), "missed": (0, 1, 3), "on_void": (4, 10, 4)},
)
"""Five classes: 3 is predicted but never true, 4 is neither."""


def six_rules_case():
    parts = []
    for number, image in enumerate(IMAGES):
        truth, prediction = [], []
        for c in range(3):
            truth += [c] * (image["hits"][c] + image["missed"][c]) + [255] * image["on_void"][c]
            prediction += [c] * image["hits"][c] + [3] * image["missed"][c]
            prediction += [c] * image["on_void"][c]
        maps = [np.array([labels], dtype=np.uint8) for labels in (truth, prediction)]
        parts.append(semantic.count(*maps, num_classes=5, image_id=number))
    return semantic.merge(parts)


@pytest.mark.parametrize(
    ("rule", "percent"),
    [
        ("ade20k-rule", 52.04),
        ("torchmetrics-per-image", 55.34),
        ("mmseg", 65.05),
        ("torchmetrics-pooled", 65.05),
        ("semantic-pooled", 65.05),
        ("paddleseg", 72.04),
        ("detectron2", 86.73),
        ("torchvision", None),
    ],
)
def test_one_prediction_has_six_scores(rule, percent):
    miou = semantic_scores(six_rules_case(), get_protocol(rule))["miou"]
    assert (None if miou is None else round(100 * miou, 2)) == percent


def test_every_promised_protocol_is_there_with_rule_and_source():
    found = {p.id: p for p in protocols()}
    assert found.keys() >= PROMISED
    assert len(found) == len(protocols())
    for protocol in found.values():
        assert len(protocol.rule) > 40
        assert protocol.source
        assert get_protocol(f"{protocol.id}.v{protocol.version}") is protocol
        assert json.loads(json.dumps(protocol.as_dict()))["versioned_id"] == protocol.versioned_id


@pytest.mark.parametrize("protocol", protocols(task="semantic"), ids=lambda p: p.id)
def test_numberings_are_consistent(protocol):
    size = protocol.num_classes or 20
    for table in (protocol.labels.truth_table(size), protocol.labels.prediction_table(size)):
        assert np.bincount(table[(table >= 0) & (table < size)]).tolist() == [1] * size
    if protocol.class_names:
        assert len(protocol.class_names) == size


def test_coco_stuff_has_171_of_182_numbers():
    labels = get_protocol("coco-stuff").labels
    assert len(labels.numbers(171)) == 171
    assert labels.truth_table(171)[[0, 11, 181, 255]].tolist() == [0, UNKNOWN, 170, 171]


def count_numbers(pairs, protocol):
    size = protocol.num_classes
    parts = [
        semantic.from_table(
            semantic.count_ids(truth, prediction),
            truth=protocol.labels.truth_table(size),
            prediction=protocol.labels.prediction_table(size),
            num_classes=size,
            image_id=number,
        )
        for number, (truth, prediction) in enumerate(pairs)
    ]
    return semantic.merge(parts)


def random_pairs(seed, numbers):
    rng = np.random.default_rng(seed)
    pool = rng.choice(numbers, size=rng.integers(1, min(len(numbers), 12)), replace=False)
    pairs = []
    for _ in range(rng.integers(1, 4)):
        shape = tuple(rng.integers(1, 9, 2))
        truth = rng.choice(pool, shape).astype(np.uint8)
        noise = rng.choice(numbers, shape)
        pairs.append((truth, np.where(rng.random(shape) < 0.5, truth, noise).astype(np.uint8)))
    return pairs


def pixels(pairs):
    return [
        (int(t), int(p))
        for truth, prediction in pairs
        for t, p in zip(truth.flat, prediction.flat, strict=True)
    ]


@pytest.mark.parametrize("seed", range(25))
def test_camvid_void_rules_against_loops(seed):
    pairs = random_pairs(seed, np.arange(12))
    all_pixels = pixels(pairs)
    by_rule = {
        "camvid-11-void-ignored": ([(t, p) for t, p in all_pixels if t < 11], 11),
        "camvid-11-void-as-fp": (all_pixels, 11),
        "camvid-11-void-dropped": ([(t, p) for t, p in all_pixels if max(t, p) < 11], 11),
        "camvid-12": (all_pixels, 12),
    }
    counts = count_numbers(pairs, get_protocol("camvid-11-void-ignored"))
    for rule, (kept, classes) in by_rule.items():
        unions = [sum(c in pair for pair in kept) for c in range(classes)]
        ious = [kept.count((c, c)) / u if u else None for c, u in enumerate(unions)]
        found = semantic_scores(counts, get_protocol(rule))["per_class"]
        assert [row["iou"] for row in found] == ious, rule


def test_mapillary_drops_what_is_predicted_unlabeled():
    truth = np.array([[0, 0, 0, 1, 65]], dtype=np.uint8)
    prediction = np.array([[0, 0, 65, 1, 1]], dtype=np.uint8)
    protocol = get_protocol("mapillary-v1.2")
    found = semantic_scores(count_numbers([(truth, prediction)], protocol), protocol)
    assert [row["iou"] for row in found["per_class"][:3]] == [1.0, 1.0, None]


def test_voc_has_no_mean_without_all_classes_and_takes_no_void():
    protocol = get_protocol("voc2012")
    everything = np.arange(21, dtype=np.uint8)[None]
    full = semantic.count(everything, everything, num_classes=21)
    assert semantic_scores(full, protocol)["miou"] == 1.0
    part = semantic.count(everything[:, :20], everything[:, :20], num_classes=21)
    assert semantic_scores(part, protocol)["miou"] is None
    void = semantic.count(everything, everything * 0 + 255, num_classes=21)
    with pytest.raises(DataError, match="takes no void predictions; 21 labelled pixels"):
        semantic_scores(void, protocol)


def test_cityscapes_panoptic_wants_label_ids():
    table = CategoryTable((Category(0, "road", False, (0, 0, 0)),))
    ids = np.zeros((1, 1), dtype=np.int32)
    counts = panoptic.count(
        ids, ids, truth_segments=[], predicted_segments=[], categories=table
    )  # fmt: skip
    with pytest.raises(ConfigError, match="use label ids"):
        panoptic.scores(counts, get_protocol("cityscapes-panoptic"))


def test_explain_shows_every_rule_once_and_names_the_causes():
    result = explain(six_rules_case())
    by_rule = {row["rule"]: row for row in result.rules}
    assert {p for row in result.rules for p in row["used_by"]} == {
        p.id for p in protocols(task="semantic")
    }
    assert len(by_rule) == len(distinct_rules())
    assert by_rule["detectron2"]["classes_in_mean"] == 3
    assert by_rule["torchvision"]["miou"] is None
    assert "1 classes have none" in by_rule["torchvision"]["note"]
    assert [row["state"] for row in result.classes[3:]] == ["predicted only", "absent"]
    assert result.classes[3]["iou"] == {
        row["rule"]: None if row["rule"] == "detectron2" else 0.0 for row in result.rules
    }
    assert any("18 pixels of void truth" in cause for cause in result.causes)


def test_explain_reports_a_refusing_rule_as_such():
    truth = np.array([[0, 1]], dtype=np.uint8)
    result = explain(semantic.count(truth, truth * 0 + 255, num_classes=2), ["a", "b"])
    refused = {row["rule"] for row in result.rules if "takes no void" in row["note"]}
    assert refused == {"torchvision", "torchmetrics-pooled"}
    assert any("2 labelled pixels are predicted void" in cause for cause in result.causes)
