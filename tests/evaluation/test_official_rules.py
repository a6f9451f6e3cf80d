"""VOC, ADE20K, Cityscapes: a thousand random folders each, against loops of the official rules."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.protocols.cityscapes_labels import CATEGORIES, LABEL_IDS
from segbench.evaluation.semantic.folders import count_folder
from segbench.evaluation.semantic.scores import scores as semantic_scores
from segbench.formats.label_maps import write_label_map

CASES = 1000


def random_maps(rng, numbers, void, wrong):
    """One to three pairs of small maps; some void, few classes or many, few faults."""
    true = numbers[numbers != void]
    pool = true if rng.random() < 0.4 else rng.choice(true, rng.integers(1, 9), replace=False)
    void_share, skill = rng.choice([0, 0.1, 0.5, 1]), rng.choice([0, 0.5, 0.95, 1])
    pairs = []
    for _ in range(rng.integers(1, 3)):
        shape = tuple(rng.integers(1, 12, 2))
        truth = rng.choice(pool, shape)
        noise = rng.choice(pool if rng.random() < 0.5 else numbers, shape)
        prediction = np.where(rng.random(shape) < skill, truth, noise)
        truth = np.where(rng.random(shape) < void_share, void, truth)
        if rng.random() < 0.05:
            prediction.flat[rng.integers(prediction.size)] = rng.choice(wrong)
        pairs.append((truth.astype(np.uint8), prediction.astype(np.uint8)))
    return pairs


def score(folder, pairs, protocol):
    """Return what the evaluator says of the pairs as files; None where it refuses them."""
    for number, maps in enumerate(pairs):
        for file, labels in zip(("gt/{}_labelIds.png", "pred/{}.png"), maps, strict=True):
            plain = file if protocol.categories else file.replace("_labelIds", "")
            write_label_map(folder / plain.format(f"ulm_{number}_0"), labels)
    try:
        found = count_folder(
            folder / "gt", folder / "pred", protocol=protocol, num_classes=protocol.num_classes
        )
    except DataError:
        return None
    return semantic_scores(found.counts, protocol)


def pixels(pairs):
    return Counter(
        (int(t), int(p))
        for truth, prediction in pairs
        for t, p in zip(truth.flat, prediction.flat, strict=True)
    )


def voc_rule(pairs):
    """VOCevalseg: IoU of 21 classes where the truth is not 255; their plain mean."""
    if any((prediction > 20).any() for _, prediction in pairs):
        return None
    counts = np.zeros((21, 21), dtype=int)
    for (t, p), n in pixels(pairs).items():
        if t < 255:
            counts[t, p] += n
    ious = []
    for c in range(21):
        true, predicted, both = counts[c].sum(), counts[:, c].sum(), counts[c, c]
        union = true + predicted - both
        ious.append(both / union if union else math.nan)
    total = counts.sum()
    return ious, np.mean(ious), (np.trace(counts) / total if total else math.nan), {}


def ade20k_rule(pairs):
    """The scene parsing kit: 0 is no class, absent classes are 0, the mean is over 150."""
    if any((prediction > 150).any() for _, prediction in pairs):
        return None
    inter, union = np.zeros((2, 151))
    right = labelled = 0
    for (t, p), n in pixels(pairs).items():
        if t == 0:
            continue
        labelled += n
        right += n * (t == p)
        inter[t] += n * (t == p)
        union[t] += n
        union[p] += n * (t != p)
    ious = inter[1:] / (np.finfo(float).eps + union[1:])
    accuracy = right / labelled if labelled else math.nan
    official = {"official_score": (accuracy + ious.mean()) / 2}
    return ious.tolist(), ious.mean(), accuracy, official


def cityscapes_rule(pairs):
    """The pixel-level script: label ids, ignored predictions are misses, NaN left out."""
    if any((prediction > 33).any() for _, prediction in pairs):
        return None
    counts = [(t, p, n) for (t, p), n in pixels(pairs).items() if t in LABEL_IDS]

    def iou(members):
        hits = sum(n for t, p, n in counts if t in members and p in members)
        misses = sum(n for t, p, n in counts if t in members and p not in members)
        false = sum(n for t, p, n in counts if t not in members and p in members)
        total = hits + misses + false
        return hits / total if total else math.nan

    def mean(values):
        return np.nanmean(values) if not np.isnan(values).all() else math.nan

    ious = [iou({label}) for label in LABEL_IDS]
    groups = [iou({LABEL_IDS[i] for i in members}) for _, members in CATEGORIES]
    labelled = sum(n for _, _, n in counts)
    right = sum(n for t, p, n in counts if t == p)
    accuracy = right / labelled if labelled else math.nan
    return ious, mean(ious), accuracy, {"category_miou": mean(groups)}


def known(value):
    return math.nan if value is None else value


RULES = {
    "voc2012": (voc_rule, np.arange(21), 255, (21, 100, 254, 255)),
    "ade20k-150": (ade20k_rule, np.arange(151), 0, (151, 200, 255)),
    "cityscapes-fine": (cityscapes_rule, np.arange(34), 0, (34, 100, 255)),
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Files of a test need no fsync."""
    monkeypatch.setattr("segbench.core.files._sync", lambda path: None)


@pytest.mark.parametrize("name", RULES)
def test_a_thousand_folders_score_as_the_official_rule_does(tmp_path, name):
    rule, numbers, void, wrong = RULES[name]
    protocol = get_protocol(name)
    rng = np.random.default_rng(0)
    outcomes = Counter()
    for case in range(CASES):
        pairs = random_maps(rng, numbers, void, wrong)
        found, expected = score(tmp_path / str(case), pairs, protocol), rule(pairs)
        if expected is None:
            assert found is None, case
            outcomes["refused"] += 1
            continue
        ious, mean, accuracy, more = expected
        compared = [known(row["iou"]) for row in found["per_class"]]
        np.testing.assert_allclose(compared, ious, rtol=0, atol=1e-15, err_msg=str(case))
        both = [known(found["miou"]), known(found["pixel_accuracy"])]
        np.testing.assert_allclose(both, [mean, accuracy], rtol=0, atol=1e-15, err_msg=str(case))
        for key, value in more.items():
            assert known(found[key]) == pytest.approx(value, abs=1e-15, nan_ok=True), case
        outcomes["no mean" if math.isnan(mean) else "a mean"] += 1
        outcomes["no labelled pixel"] += math.isnan(accuracy)
    assert outcomes["refused"] > 50
    assert outcomes["no labelled pixel"] > 50
    assert outcomes["a mean"] > 50
    assert name != "voc2012" or outcomes["no mean"] > 50
