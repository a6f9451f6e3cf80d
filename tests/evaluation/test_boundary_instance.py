"""Boundary AP against pycocotools with eroded masks, and figures of boundary-iou-api."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segbench.core.errors import ConfigError
from segbench.evaluation.counts import load_counts, save_counts
from segbench.evaluation.instance import average_precision as instance
from segbench.evaluation.instance.boundary_kernels import boundary_room, boundary_runs
from segbench.evaluation.instance.counts import merge
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.resampled import statistic
from segbench.evaluation.scores import score_parts
from tests.evaluation import boundary_oracle as oracle

AP = get_protocol("coco-instances")
TWELVE = [f"boundary_{key}" for key in instance._KEYS]
OFFICIAL = [
    0.04587274706553521, 0.20125666919794608, 0.013863353743959455, 0.01643917963224894,
    0.103649199036445, None, 0.06863711001642037, 0.13891625615763545, 0.13891625615763545,
    0.03368055555555556, 0.2333333333333333, None,
]  # fmt: skip
"""The 12 numbers of boundary-iou-api on ``instance_scene(11, images=40)``."""


class ByErosion(COCOeval):
    """pycocotools with the smaller of mask IoU and boundary IoU, crowds by mask alone."""

    def computeIoU(self, imgId, catId):  # noqa: N802, N803
        ious = super().computeIoU(imgId, catId)
        truths, found = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-d["score"] for d in found], kind="mergesort")[:100]
        for row, d in enumerate(order):
            for column, truth in enumerate(truths):
                if not truth["iscrowd"]:
                    iou = oracle.boundary_iou(_pixels(truth), _pixels(found[d]))
                    ious[row, column] = min(ious[row, column], float(iou))
        return ious


def _pixels(entry):
    return coco_mask.decode(entry["segmentation"]).astype(bool)


def by_erosion(truth, detections):
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = json.loads(json.dumps({**truth, "info": {}}))
        known.createIndex()
        plain = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
        evaluator = ByErosion(known, known.loadRes(json.loads(json.dumps(plain))), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else value for value in evaluator.stats.tolist()]


def matched(truth, detections):
    return instance.match_table(instance.table_of(truth, detections, ("segm",)), "boundary")


def numbers(counts):
    found = instance.scores(counts, AP)
    return [found[key] for key in TWELVE]


@pytest.fixture(scope="module")
def scene():
    return oracle.instance_scene(11, images=40)


def test_the_12_numbers_are_those_of_the_official_tool(scene):
    assert numbers(matched(*scene)) == OFFICIAL


@pytest.mark.parametrize("seed", range(25))
def test_the_12_numbers_are_those_of_eroded_masks(seed):
    truth, detections = oracle.instance_scene(seed)
    if detections:
        assert numbers(matched(truth, detections)) == by_erosion(truth, detections)


@pytest.mark.parametrize("seed", range(60))
def test_runs_of_a_boundary_are_its_pixels(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 60, 2))
    distance = int(rng.integers(1, 9))
    mask = oracle.blobs(rng, height, width, 3) > int(rng.integers(0, 2))
    mask &= rng.integers(0, 80, mask.shape) > 0
    mask[0, 0] = True
    flat = mask.T.reshape(-1)
    ends = np.append(np.flatnonzero(np.diff(flat, prepend=False)), flat.size).astype(np.int64)
    room = boundary_room(width, height, distance, len(ends))
    out, inside = np.empty(room, dtype=np.int64), np.empty(height, dtype=np.int32)
    written = boundary_runs(ends, len(ends), height, distance, inside, out)
    assert written <= room
    found = np.zeros(flat.size, dtype=int)
    for begin, end in out[:written].reshape(-1, 2):
        found[begin:end] += 1
    expected = oracle.boundary_of(mask, distance)
    assert (expected == found.reshape(width, height).T).all()


def test_truth_scores_one_on_itself(scene):
    truth, _ = scene
    plain = {**truth, "annotations": [{**a, "iscrowd": 0} for a in truth["annotations"]]}
    detections = [{**a, "score": 0.5} for a in plain["annotations"]]
    for d in detections:
        del d["id"]
    found = numbers(matched(plain, detections))
    assert found[:3] == pytest.approx([1.0] * 3)
    assert found[8] == pytest.approx(1.0)


def test_boundary_ap_stands_beside_ap_and_leaves_it_alone(scene, tmp_path):
    truth, detections = scene
    files = tmp_path / "truth.json", tmp_path / "results.json"
    for file, content in zip(files, (truth, detections), strict=True):
        file.write_text(json.dumps(content))
    parts = instance.match_parts(*files, boundary=True)
    found = score_parts(parts, AP)
    plain = score_parts(instance.match_parts(*files), AP)
    assert {key: found[key] for key in plain if key != "per_class"} == {
        key: value for key, value in plain.items() if key != "per_class"
    }
    assert [found[key] for key in TWELVE] == OFFICIAL
    assert found["boundary_ap"] < found["ap"]
    assert all("boundary_ap" in row and "ap" in row for row in found["per_class"])
    save_counts(tmp_path / "counts.npz", parts)
    assert score_parts(load_counts(tmp_path / "counts.npz"), AP) == found


def test_any_split_gives_the_same_bits_and_weights_draw_images(scene):
    counts = matched(*scene)
    ids = counts.image_ids
    joined = merge([counts.subset(ids[::2]), counts.subset(ids[1::2])])
    assert numbers(joined) == numbers(counts)
    found = statistic({"segm_boundary": counts}, AP, "boundary_ap50")
    assert found.estimate == pytest.approx(OFFICIAL[1], abs=1e-12)
    weights = np.zeros((1, len(ids)))
    weights[0, 5:25] = 1
    part = numbers(counts.subset(ids[5:25]))[1]
    assert found.evaluate(weights)[0] == pytest.approx(part, abs=1e-12)


def test_counts_without_boundaries_have_no_boundary_metric(scene):
    counts = instance.match_table(instance.table_of(*scene, ("segm",)), "segm")
    with pytest.raises(ConfigError, match="boundaries were not counted") as caught:
        statistic({"segm": counts}, AP, "boundary_ap")
    assert "--boundary" in caught.value.fix
