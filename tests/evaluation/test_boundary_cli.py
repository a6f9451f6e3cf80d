"""``--boundary`` from files to scores, counts and records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segbench.core.errors import ConfigError
from segbench.core.files import write_json
from segbench.evaluation.counts import load_counts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.scores import score_parts
from segbench.formats.label_maps import write_label_map, write_panoptic_ids
from segbench.formats.manifest import write_manifest
from segbench.workflow.config import load_config
from tests.evaluation import boundary_oracle as oracle
from tests.evaluation import test_evaluation_folder as prepared

dataset, perfect = prepared.dataset, prepared.oracle


def semantic_files(folder):
    rng = np.random.default_rng(1)
    for name in "abc":
        truth = oracle.blobs(rng, 90, 120, 4).astype(np.uint8)
        write_label_map(folder / "gt" / f"{name}.png", truth)
        write_label_map(folder / "pred" / f"{name}.png", np.roll(truth, 2, axis=0))
    return "--gt", folder / "gt", "--pred", folder / "pred", "--num-classes", 5


def instance_files(folder):
    truth, detections = oracle.instance_scene(11)
    write_json(folder / "gt.json", truth)
    write_json(folder / "pred.json", detections)
    return "--gt", folder / "gt.json", "--pred", folder / "pred.json"


def panoptic_files(folder):
    listed = {"gt": [], "pred": []}
    for seed in range(4):
        scene = oracle.panoptic_scene(seed, 90, 120)
        for side, (ids, segments) in zip(listed, scene, strict=True):
            write_panoptic_ids(folder / side / f"{seed}.png", ids)
            name = {"image_id": seed, "file_name": f"{seed}.png"}
            listed[side].append({**name, "segments_info": segments})
    known = [{"id": i, "name": str(i), "isthing": 1, "color": [i, 0, 0]} for i in (3, 7, 90)]
    for side, images in listed.items():
        write_json(folder / f"{side}.json", {"categories": known, "annotations": images})
    return "--gt", folder / "gt.json", "--pred", folder / "pred.json"


@pytest.mark.parametrize(
    ("task", "files", "key", "plain"),
    [
        ("semantic", semantic_files, "boundary_miou", "miou"),
        ("semantic", semantic_files, "boundary_f", "miou"),
        ("instance", instance_files, "boundary_ap50", "ap50"),
        ("panoptic", panoptic_files, "boundary_pq", "pq"),
    ],
)
def test_score_with_boundaries(run, tmp_path, task, files, key, plain):
    command = ["score", "--task", task, *files(tmp_path), "--json"]
    code, out, _ = run(*command, "--out", tmp_path / "plain")
    assert code == 0
    before = json.loads(out)["scores"]
    code, out, _ = run(*command, "--boundary", "--out", tmp_path / "out")
    scores = json.loads(out)["scores"]
    assert code == 0
    assert key not in before
    assert 0 < scores[key] < scores[plain] <= 1
    assert {k: scores[k] for k in before if k != "per_class"} == {
        k: v for k, v in before.items() if k != "per_class"
    }
    again = score_parts(load_counts(tmp_path / "out" / "counts.npz"), get_protocol(protocol(out)))
    assert again[key] == scores[key]


def protocol(out):
    return json.loads(out)["protocol"]


def test_any_number_of_workers_gives_the_same_scores(run, tmp_path):
    command = ["score", "--task", "panoptic", *panoptic_files(tmp_path), "--json", "--boundary"]
    one, two = (json.loads(run(*command, "--workers", n)[1]) for n in (1, 2))
    assert one["scores"] == two["scores"]


def test_a_protocol_without_boundary_scores_says_so(run, tmp_path):
    code, _, err = run(
        "score", "--task", "instance", "--protocol", "cityscapes-instances", "--boundary",
        *instance_files(tmp_path),
    )  # fmt: skip
    assert (code, "has no boundary score" in err, "Traceback" in err) == (2, True, False)


def test_the_rule_is_part_of_the_protocol(run):
    code, out, _ = run("protocols", "--json")
    rules = {row["id"]: row["boundary_rule"] for row in json.loads(out)}
    assert code == 0
    assert "smaller of mask IoU and boundary IoU" in rules["coco-panoptic"]
    assert "smaller of mask IoU and boundary IoU" in rules["coco-instances"]
    assert "0.75 % of the diagonal" in rules["voc2012"]
    assert rules["cityscapes-instances"] == ""
    assert "with --boundary" in run("protocols", "coco-panoptic")[1]


def test_evaluate_with_boundaries(run, dataset, perfect, tmp_path):
    write_manifest(
        perfect, kind="control", dataset="toy", split="val", experiment="oracle", model=None,
        display_name="Oracle", seed=0, digests={"data": dataset.digest}, wall_time_s={},
    )  # fmt: skip
    code, _, err = run(
        "evaluate", "--data", dataset.root, "--predictions", perfect, "--boundary",
        "--out", tmp_path / "scored",
    )  # fmt: skip
    assert code == 0, err
    keys = {"semantic": "boundary_miou", "instance": "boundary_ap", "panoptic": "boundary_pq"}
    for task, key in keys.items():
        record = json.loads((tmp_path / "scored" / task / "record.json").read_text())
        assert record["scores"][key] == 1.0
        assert set(record["intervals"]) <= {key.removeprefix("boundary_")}


def test_the_configuration_asks_for_boundaries(tmp_path):
    file = tmp_path / "config.yaml"
    run = "runs:\n  - dataset: digit_scenes\n    controls: [oracle]\n"
    file.write_text(run)
    assert load_config(file).evaluate.boundary is False
    file.write_text(run + "evaluate: {boundary: true}\n")
    assert load_config(file).evaluate.boundary is True
    file.write_text(run + "evaluate: {boundaries: true}\n")
    with pytest.raises(ConfigError, match="Did you mean 'boundary'"):
        load_config(file)
