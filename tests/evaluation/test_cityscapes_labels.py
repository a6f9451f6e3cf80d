"""Cityscapes by label id: iIoU against loops, stored and read again; the official results file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.evaluation import counts
from segbench.evaluation.cityscapes import official_files as cityscapes_json
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.protocols.cityscapes_labels import (
    IGNORED_IDS,
    LABEL_CATEGORIES,
    LABEL_IDS,
    LABEL_NAMES,
)
from segbench.evaluation.resampled import statistic
from segbench.evaluation.scores import score_parts
from segbench.evaluation.semantic import instance_weighted as labels_module
from segbench.evaluation.semantic.counts import count_ids, from_table
from segbench.evaluation.semantic.instance_weighted import MEAN_SIZES, count_instances, count_labels
from segbench.statistics.bootstrap import resample_weights
from tests.evaluation.cityscapes_scenes import scene

PROTOCOL = get_protocol("cityscapes-fine")
VEHICLES = {26, 27, 28, 29, 30, 31, 32, 33}


def random_images(seed, images=3):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(images):
        labels, numbers = scene(rng)
        noise = rng.integers(0, 34, labels.shape).astype(np.uint8)
        prediction = np.where(rng.random(labels.shape) < rng.random(), labels, noise)
        made.append((labels, numbers, prediction))
    return made


def counted(images):
    tables = [count_ids(labels, prediction) for labels, _, prediction in images]
    parts = [
        count_labels(table, count_instances(numbers, prediction), image_id=f"image {i:02d}")
        for i, (table, (_, numbers, prediction)) in enumerate(zip(tables, images, strict=True))
    ]
    code = PROTOCOL.labels
    semantic = [
        from_table(
            table, truth=code.truth_table(19), prediction=code.prediction_table(19),
            num_classes=19, image_id=f"image {i:02d}",
        )
        for i, table in enumerate(tables)
    ]  # fmt: skip
    return {
        "semantic": sum(semantic[1:], semantic[0]),
        "semantic_labels": labels_module.merge(parts),
    }


def slow_iou(images, members):
    """IoU of a group of label ids whose instances are weighed by mean size / size."""
    hits = misses = 0.0
    false = 0
    for labels, numbers, prediction in images:
        for number in sorted(set(numbers.flat)):
            label = int(number) // 1000
            if number <= 1000 or label not in members or label not in MEAN_SIZES:
                continue
            inside = [int(p) for n, p in zip(numbers.flat, prediction.flat, strict=True)
                      if n == number]  # fmt: skip
            weight = MEAN_SIZES[label] / len(inside)
            good = sum(p in members for p in inside)
            hits += good * weight
            misses += (len(inside) - good) * weight
        pairs = zip(labels.flat, prediction.flat, strict=True)
        false += sum(p in members and t in LABEL_IDS and t not in members for t, p in pairs)
    total = hits + false + misses
    return hits / total if total else None


@pytest.mark.parametrize("seed", range(25))
def test_iiou_against_loops_to_the_last_bit(seed):
    images = random_images(seed)
    found = score_parts(counted(images), PROTOCOL)
    for name, members in (
        ("iiou_person", {24}),
        ("iiou_car", {26}),
        ("category_iiou_human", {24, 25}),
        ("category_iiou_vehicle", VEHICLES),
    ):
        assert found[name] == slow_iou(images, members)
    known = [found[f"iiou_{LABEL_NAMES[i]}"] for i in MEAN_SIZES]
    known = [value for value in known if value is not None]
    assert found["iiou"] == (pytest.approx(np.mean(known)) if known else None)
    rows = {name: row["iiou"] for name, row in zip(PROTOCOL.class_names, found["per_class"],
                                                   strict=True)}  # fmt: skip
    assert rows["car"] == found["iiou_car"]
    assert rows["road"] is None


def test_iiou_of_stored_counts_of_subsets_and_of_resamples(tmp_path):
    images = random_images(3, images=12)
    parts = counted(images)
    counts.save_counts(tmp_path / "counts.npz", parts)
    stored = counts.load_counts(tmp_path / "counts.npz")
    assert score_parts(stored, PROTOCOL) == score_parts(parts, PROTOCOL)
    chosen = ["image 01", "image 04", "image 05"]
    part = counts.subset(stored, chosen)
    again = counted([images[i] for i in (1, 4, 5)])
    assert score_parts(part, PROTOCOL) == score_parts(again, PROTOCOL)
    weights = resample_weights(12, 10, seed=1).astype(np.float64)
    for metric in ("iiou", "category_iiou", f"iiou.{PROTOCOL.class_names.index('car')}"):
        drawn = statistic(stored, PROTOCOL, metric)
        values = drawn.evaluate(weights)
        key = "iiou_car" if metric[-1].isdigit() else metric
        for row, value in zip(weights.astype(int), values, strict=True):
            copies = [image for i, n in enumerate(row) for image in [images[i]] * n]
            expected = score_parts(counted(copies), PROTOCOL)[key]
            assert value == pytest.approx(math.nan if expected is None else expected, nan_ok=True)
    assert np.isnan(statistic(stored, PROTOCOL, "iiou.0").estimate)


def test_every_resample_of_a_perfect_prediction_scores_exactly_1():
    images = [(labels, numbers, labels) for labels, numbers, _ in random_images(2, images=12)]
    drawn = statistic(counted(images), PROTOCOL, "iiou")
    values = drawn.evaluate(resample_weights(12, 300, seed=0).astype(np.float64))
    assert set(values[~np.isnan(values)]) == {1.0}


def test_other_rules_leave_the_label_counts_out():
    parts = counted(random_images(0))
    assert "iiou" not in score_parts(parts, get_protocol("mmseg"))


@pytest.mark.parametrize("seed", range(10))
def test_the_results_file_against_loops(seed):
    images = random_images(100 + seed)
    parts = counted(images)
    found = cityscapes_json.pixel_results(parts["semantic_labels"])
    for i, name in enumerate(LABEL_NAMES):
        plain = None if i in IGNORED_IDS else slow_plain(images, {i})
        same(found["classScores"][name], plain)
        same(found["classInstScores"][name],
             slow_iou(images, {i}) if i in MEAN_SIZES else None)  # fmt: skip
    for name, score in found["categoryScores"].items():
        members = {i for i in LABEL_IDS if LABEL_CATEGORIES[i] == name}
        same(score, slow_plain(images, members) if members else None)
    pixels = sum(labels.size for labels, _, _ in images)
    assert np.sum(found["confMatrix"]) == pixels
    assert sum(found["priors"].values()) == pytest.approx(1.0)
    for average, scores in (
        ("averageScoreClasses", "classScores"),
        ("averageScoreInstClasses", "classInstScores"),
        ("averageScoreCategories", "categoryScores"),
        ("averageScoreInstCategories", "categoryInstScores"),
    ):
        same(found[average], _mean(found[scores].values()))


def slow_plain(images, members):
    pairs = [p for labels, _, prediction in images
             for p in zip(labels.flat, prediction.flat, strict=True)]  # fmt: skip
    hits = sum(t in members and p in members for t, p in pairs)
    misses = sum(t in members and p not in members for t, p in pairs)
    false = sum(p in members and t in LABEL_IDS and t not in members for t, p in pairs)
    return hits / (hits + misses + false) if hits + misses + false else None


def _mean(values):
    known = [value for value in values if not math.isnan(value)]
    return np.mean(known) if known else None


def same(found, expected):
    assert found == pytest.approx(
        math.nan if expected is None else expected, nan_ok=True, rel=1e-14
    )


def test_the_results_file_has_the_official_keys_and_form(tmp_path):
    parts = counted(random_images(5))
    path = tmp_path / cityscapes_json.PIXEL_FILE
    cityscapes_json.write_results(path, cityscapes_json.pixel_results(parts["semantic_labels"]))
    text = path.read_text()
    found = json.loads(text)
    assert path.name == "resultPixelLevelSemanticLabeling.json"
    assert sorted(found) == [
        "averageScoreCategories", "averageScoreClasses", "averageScoreInstCategories",
        "averageScoreInstClasses", "categoryInstScores", "categoryScores", "classInstScores",
        "classScores", "confMatrix", "labels", "priors",
    ]  # fmt: skip
    assert text.startswith('{\n    "averageScoreCategories": ')
    assert '"unlabeled": NaN' in text
    assert found["labels"]["bicycle"] == 33
    assert len(found["labels"]) == 34
    assert sorted(found["categoryScores"]) == sorted(
        ["void", "flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    )


FIGURES = {
    "averageScoreClasses": 0.15735574766319038,
    "averageScoreInstClasses": 0.2879617311057895,
    "averageScoreCategories": 0.2867395311445725,
    "averageScoreInstCategories": 0.6560341198731905,
}
"""What cityscapesScripts itself gives for the images of seed 7."""


def test_figures_of_the_official_tool():
    parts = counted(random_images(7))
    found = cityscapes_json.pixel_results(parts["semantic_labels"])
    assert {key: found[key] for key in FIGURES} == FIGURES


def test_without_instance_numbers_there_is_no_weighted_score():
    (labels, _, prediction), *_ = random_images(1)
    found = count_labels(count_ids(labels, prediction), None)
    results = cityscapes_json.pixel_results(found)
    assert math.isnan(results["averageScoreInstClasses"])
    assert not math.isnan(results["averageScoreClasses"])


def test_an_instance_number_of_no_label():
    with pytest.raises(DataError, match=r"label id \* 1000 \+ instance, found \[500, 34000\]"):
        count_instances(np.array([[500, 34000, 26001]]), np.zeros((1, 3), dtype=np.uint8))
