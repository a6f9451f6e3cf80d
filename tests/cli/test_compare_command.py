"""``segbench compare`` on folders as ``evaluate`` and ``score`` leave them."""

import functools
import json

import pytest

from segbench.core.files import write_json
from segbench.evaluation.counts import save_counts
from segbench.evaluation.protocol import get_protocol
from segbench.statistics import comparison as stats
from segbench.statistics import intervals
from segbench.statistics.scored_folders import load_scored
from tests.statistics.made_counts import panoptic_counts, semantic_counts

POOLED = get_protocol("semantic-pooled")
NAMES = ["road", "sky", "tree", "car"]


def scored(folder, counts, *, part="semantic", **facts):
    record = {"dataset": "toy", "split": "val", "protocol": "semantic-pooled", **facts}
    rows = [{"id": i, "name": name} for i, name in enumerate(NAMES)]
    write_json(folder / "record.json", {"per_class": rows, **record})
    save_counts(folder / "counts.npz", {part: counts})
    return folder


@pytest.fixture
def experiments(tmp_path):
    """Experiment ``good`` with two seeds, ``poor`` with one."""
    for name, seed, skill in (("good", 0, 0.8), ("good", 1, 0.8), ("poor", 2, 0.6)):
        folder = tmp_path / name / f"seed{seed % 2}" / "evaluation" / "val" / "semantic"
        scored(folder, semantic_counts(seed, skill=skill, images=40))
    return tmp_path


@pytest.fixture
def call(run):
    return functools.partial(run, "compare")


def test_runs_are_compared_and_json_is_what_the_library_says(call, experiments):
    a, b = experiments / "good" / "seed0", experiments / "poor" / "seed0"
    code, out, _ = call(a, b, "--json")
    found = json.loads(out)
    direct = stats.compare(load_scored(a).runs, load_scored(b).runs, POOLED, "miou")
    assert code == 0
    assert found["protocol"] == "semantic-pooled.v1"
    assert {key: found[key] for key in direct.as_dict()} == direct.as_dict()
    assert found["separable"] is True
    code, out, _ = call(a, b)
    assert "separable: A is better" in out
    assert f"A - B  {100 * direct.difference:+.2f}" in out


def test_a_run_is_not_separable_from_itself(call, experiments):
    run = experiments / "good" / "seed1"
    code, out, _ = call(run, run)
    assert code == 0
    assert "not separable" in out
    assert "p 1.000" in out


def test_too_few_images_a_class_are_no_verdict(call, tmp_path):
    rows = [scored(tmp_path / n, semantic_counts(i, images=11)) for i, n in enumerate("ab")]
    for row in rows:
        counts = load_scored(row).runs[0]["semantic"]
        counts = counts.subset(counts.image_ids[:10])
        save_counts(row / "counts.npz", {"semantic": counts})
    code, out, _ = call(*rows)
    assert code == 0
    assert "no interval: too few images a class: 0 of 4 classes are on 10 images or more" in out
    assert "cannot be said from these images" in out
    found = json.loads(call(*rows, "--json")[1])
    assert (found["low"], found["p"], found["separable"]) == (None, None, False)


def test_seeds_of_an_experiment_are_averaged(call, experiments):
    _, out, _ = call(experiments / "good", experiments / "poor", "--json")
    found = json.loads(out)
    row = load_scored(experiments / "good")
    each = [intervals.interval(run, POOLED, "miou").estimate for run in row.runs]
    assert found["estimate_a"] == pytest.approx(sum(each) / 2)
    assert (found["seeds_a"]["n"], found["seeds_b"]["n"]) == (2, 1)
    assert found["seeds_b"]["sd"] is None
    assert "sd over 2 seeds" in call(experiments / "good", experiments / "poor")[1]


def test_classes_are_called_by_name_or_position(call, experiments):
    rows = experiments / "good", experiments / "poor"
    by_name = json.loads(call(*rows, "--metric", "iou.tree", "--json")[1])
    by_place = json.loads(call(*rows, "--metric", "iou.2", "--json")[1])
    assert by_name == by_place
    assert by_name["metric"] == "iou.2"


def test_panoptic_classes_are_named_by_id(tmp_path):
    rows = [{"id": i, "name": f"class {i}"} for i in (9, 8, 5, 2, 1)]
    folder = scored(
        tmp_path, panoptic_counts(0), part="panoptic", protocol="coco-panoptic", per_class=rows
    )
    assert load_scored(folder).class_names == tuple(f"class {i}" for i in (1, 2, 5, 8, 9))


def test_folders_of_segbench_score_can_be_compared(call, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        save_counts(tmp_path / name / "counts.npz", {"semantic": semantic_counts(seed)})
        write_json(tmp_path / name / "scores.json", {"protocol": "semantic-pooled", "scores": {}})
    code, out, _ = call(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "12 images" in out


def test_other_protocols_are_compared_under_one_only(call, experiments, tmp_path):
    counts = semantic_counts(5, images=40)
    other = scored(tmp_path / "other", counts, protocol="mmseg")
    run = experiments / "good" / "seed0"
    code, _, err = call(run, other)
    assert code == 1
    assert "have different protocols: 'semantic-pooled' and 'mmseg'" in err
    assert "--protocol" in err
    assert call(run, other, "--protocol", "detectron2")[0] == 0


WRONG = [
    ({"split": "test"}, [], 1, "different splits: 'toy/val' and 'toy/test'"),
    ({"dataset": "toys"}, [], 1, "different splits: 'toy/val' and 'toys/val'"),
    ({"protocol": None}, [], 1, "names no protocol"),
    ({}, ["--metric", "miuo"], 2, "Did you mean 'miou'?"),
    ({}, ["--metric", "iou.lake"], 2, "expected a class from 0 to 3, found 'lake'"),
    ({}, ["--task", "panoptic"], 1, "found no evaluation/*/panoptic/counts.npz"),
    ({}, ["--level", "1.5"], 2, "between 0 and 1"),
    ({}, ["--protocol", "coco-panoptic"], 2, "scores the panoptic task"),
]


@pytest.mark.parametrize(("facts", "options", "expected", "text"), WRONG)
def test_mistakes_are_named(call, experiments, tmp_path, facts, options, expected, text):
    other = scored(tmp_path / "other", semantic_counts(5, images=40), **facts)
    code, _, err = call(experiments / "good" / "seed0", other, *options)
    assert code == expected
    assert text in err
    assert "Traceback" not in err


def test_folders_without_scores_are_named(call, experiments, tmp_path):
    run = experiments / "good" / "seed0"
    code, _, err = call(run, tmp_path / "nothing")
    assert (code, "found no counts.npz" in err) == (1, True)
    bare = tmp_path / "bare"
    save_counts(bare / "counts.npz", {"semantic": semantic_counts(0)})
    code, _, err = call(run, bare)
    assert (code, "no record.json or scores.json" in err) == (1, True)
    scored(run / "evaluation" / "test" / "semantic", semantic_counts(0))
    code, _, err = call(run, run)
    assert (code, "scored more than once" in err) == (1, True)
    assert call(run, run, "--split", "val")[0] == 0
