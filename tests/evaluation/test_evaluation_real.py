"""Known answers on small real data sets, where the optional folder of them is present."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segbench.core.files import read_json
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic.scores import scores as semantic_scores
from segbench.formats.label_maps import read_label_map, read_panoptic_ids

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[2].parent / "shared"))
DATA = SHARED / "data"

pytestmark = pytest.mark.shared_data


def need(folder):
    if not (DATA / folder).is_dir():
        pytest.skip(f"the optional folder data/{folder} is not there (SEGBENCH_SHARED)")
    return DATA / folder


@pytest.mark.parametrize("strict_compat", [False, True])
def test_the_panopticapi_sample_against_itself(strict_compat):
    folder = need("panopticapi_sample")
    truth, pngs = folder / "panoptic_examples.json", folder / "panoptic_examples"
    counts = evaluate_panoptic(
        truth, truth, truth_folder=pngs, prediction_folder=pngs, strict_compat=strict_compat
    )
    found = panoptic.scores(counts, get_protocol("coco-panoptic"))
    assert [found[key] for key in ("pq", "sq", "rq", "pq_things", "pq_stuff")] == [1.0] * 5
    shown = [s for a in read_json(truth)["annotations"] for s in a["segments_info"]]
    solid = [s for s in shown if not s["iscrowd"]]
    assert sum(row["tp"] for row in found["per_class"]) == len(solid)
    assert found["n"] == len({s["category_id"] for s in solid})


def test_areas_in_coco_panoptic_json_are_the_areas_in_the_png():
    """So recomputed areas and those of the JSON (strict_compat) give one score."""
    folder = need("coco_panoptic") / "annotations"
    truth = folder / "panoptic_val2017.json"
    for annotation in read_json(truth)["annotations"][:10]:
        png = read_panoptic_ids(folder / "panoptic_val2017" / annotation["file_name"])
        ids, pixels = np.unique(png[png > 0], return_counts=True)
        areas = {s["id"]: s["area"] for s in annotation["segments_info"]}
        assert dict(zip(ids.tolist(), pixels.tolist(), strict=True)) == areas


def test_the_ade20k_sample():
    """Its prediction is its annotation: 1.0, but 0.1 where the 135 absent classes count 0."""
    folder = need("ade20k_sample")
    parts = []
    for path in sorted((folder / "annotations").glob("*.png")):
        # 0 is "other" and void; classes 1 to 150 become train ids 0 to 149.
        truth = read_label_map(path).astype(np.uint8) - np.uint8(1)
        prediction = read_label_map(folder / "predictions" / path.name).astype(np.uint8)
        prediction = np.where(truth == 255, 255, prediction - np.uint8(1)).astype(np.uint8)
        parts.append(semantic.count(truth, prediction, num_classes=150, image_id=path.stem))
    pooled = get_protocol("semantic-pooled")
    counts = semantic.merge(parts)
    assert semantic_scores(counts, pooled)["miou"] == 1.0
    official = semantic_scores(counts, replace(pooled, absent_class="zero"))
    assert (official["pixel_accuracy"], official["miou"]) == (1.0, pytest.approx(0.1, abs=1e-15))
