"""Speed of boundary scores beside boundary-iou-api, and what they add to plain scores.

    OMP_NUM_THREADS=1 python benchmarks/bench_boundary.py [--boundary-iou-api FOLDER]
        [--pairs 20] [--images 40] [--rounds 3]

FOLDER is a checkout of bowenc0221/boundary-iou-api with ``np.float`` replaced by ``float``; it
needs OpenCV, matplotlib and panopticapi. Without it only our own times are shown. Scores that
should be equal are compared before they are timed; one process each.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import workloads
from bench_evaluation import CLASSES, COCO, PQ, quiet
from timing import compare

from segbench.core.files import read_json
from segbench.evaluation.boundary.distance import boundary_map
from segbench.evaluation.boundary_scores import boundary_scores
from segbench.evaluation.instance import average_precision as instance
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.scores import score_parts
from segbench.evaluation.semantic import counts as semantic
from segbench.formats import kernel_loading as speed
from segbench.formats.label_maps import read_label_map

RATIO = 0.02


def pq(folder, boundary):
    return quiet(
        partial(
            evaluate_panoptic,
            folder / "truth.json", folder / "prediction.json",
            truth_folder=folder / "truth", prediction_folder=folder / "prediction",
            boundary=boundary,
        )
    )  # fmt: skip


def pq_of_peer(folder):
    from boundary_iou.coco_panoptic_api.evaluation import pq_compute_single_core

    truth, prediction = (read_json(folder / f"{side}.json") for side in ("truth", "prediction"))
    by_image = {a["image_id"]: a for a in prediction["annotations"]}
    matched = [(a, by_image[a["image_id"]]) for a in truth["annotations"]]
    known = {c["id"]: c for c in truth["categories"]}
    folders = str(folder / "truth"), str(folder / "prediction")
    return quiet(pq_compute_single_core, 0, matched, *folders, known, "boundary", RATIO)


def bench_panoptic(folder, options):
    workloads.write_panoptic(folder, options.pairs)
    candidates = {}
    if options.boundary_iou_api:
        theirs, ours = pq_of_peer(folder), boundary_scores(pq(folder, True), PQ)
        for category, row in zip(workloads.categories(), ours["per_class"], strict=True):
            stat = theirs[category["id"]]
            counted = tuple(row[f"boundary_{key}"] for key in ("tp", "fp", "fn"))
            assert counted == (stat.tp, stat.fp, stat.fn), "counts differ from boundary-iou-api"
        candidates["boundary-iou-api, from files"] = partial(pq_of_peer, folder)
    candidates["segbench PQ + Boundary PQ, from files"] = partial(pq, folder, True)
    candidates["segbench PQ alone, from files"] = partial(pq, folder, False)
    print(f"\nBoundary PQ, 640x480, {options.pairs} pairs")
    compare(candidates, rounds=options.rounds, items=options.pairs, item="pair")


def ap(folder, boundary):
    files = folder / "truth.json", folder / "results.json"
    types = ("segm", "boundary") if boundary else ("segm",)
    counts = quiet(partial(instance.match_files, *files, iou_types=types))
    return {key: instance.scores(value, COCO) for key, value in counts.items()}


def ap_of_peer(folder):
    from boundary_iou.coco_instance_api import coco
    from boundary_iou.coco_instance_api.cocoeval import COCOeval
    from boundary_iou.utils import boundary_utils

    def alone(annotations, to_mask, dilation_ratio):
        single = boundary_utils.augment_annotations_with_boundary_single_core
        return single(0, annotations, to_mask, dilation_ratio)

    coco.augment_annotations_with_boundary_multi_core = alone
    options = {"get_boundary": True, "dilation_ratio": RATIO}
    truth = coco.COCO(str(folder / "truth.json"), **options)
    found = truth.loadRes(str(folder / "results.json"))
    evaluator = COCOeval(truth, found, iouType="boundary", dilation_ratio=RATIO)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator.stats.tolist()


def bench_instances(folder, options):
    workloads.write_instances(folder, options.images)
    candidates = {}
    if options.boundary_iou_api:
        theirs, ours = quiet(ap_of_peer, folder), ap(folder, True)["boundary"]
        keys = list(ours)[: len(theirs)]
        assert [-1 if ours[k] is None else ours[k] for k in keys] == theirs, "the 12 numbers differ"
        candidates["boundary-iou-api, from files"] = partial(quiet, ap_of_peer, folder)
    candidates["segbench AP + Boundary AP, from files"] = partial(ap, folder, True)
    candidates["segbench AP alone, from files"] = partial(ap, folder, False)
    print(f"\nBoundary AP, {options.images} images, {35 * options.images} detections")
    compare(candidates, rounds=options.rounds, items=options.images, item="image")


def bench_semantic(folder, options):
    paths = workloads.write_semantic(folder, 5)
    maps = [tuple(map(read_label_map, pair)) for pair in paths]

    def count(pairs, boundary):
        counted = [
            semantic.count(*pair, num_classes=CLASSES, image_id=i, boundary=boundary)
            for i, pair in enumerate(pairs)
        ]
        return score_parts({"semantic": semantic.merge(counted)}, get_protocol("semantic-pooled"))

    print("\nBoundary IoU and boundary F, 2048x1024, 19 classes")
    compare(
        {
            "mIoU alone, from PNG": lambda: count([map(read_label_map, p) for p in paths], False),
            "with boundaries, from PNG": lambda: count(
                [map(read_label_map, p) for p in paths], True
            ),
            "with boundaries, in memory": lambda: count(maps, True),
        },
        rounds=options.rounds,
        items=len(paths),
        item="pair",
    )


def bench_segments(options):
    """The window test costs the same for any number of segments."""
    rng = np.random.default_rng(0)
    few, many = (workloads.regions(rng, 480, 640, number).astype(np.int32) for number in (2, 1000))
    print("\nBoundaries of all segments of a 640x480 map")
    compare(
        {
            "2 segments": lambda: [boundary_map(few) for _ in range(20)],
            "1000 segments": lambda: [boundary_map(many) for _ in range(20)],
        },
        rounds=options.rounds,
        items=20,
        item="map",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--boundary-iou-api", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.boundary_iou_api:
        sys.path.insert(0, str(options.boundary_iou_api))
    speed.load()
    with tempfile.TemporaryDirectory() as folder:
        bench_panoptic(Path(folder) / "panoptic", options)
        bench_instances(Path(folder) / "instances", options)
        bench_semantic(Path(folder) / "semantic", options)
    bench_segments(options)


if __name__ == "__main__":
    main()
