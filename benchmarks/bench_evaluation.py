"""Speed of the evaluators beside what people use, and of scoring stored counts again.

    OMP_NUM_THREADS=1 python benchmarks/bench_evaluation.py [--panopticapi FOLDER]
        [--cityscapesscripts FOLDER] [--pairs 30] [--rounds 5]

FOLDER is a checkout of the peer (what it imports must be installed); without it the peer is
left out. Ratios are to the first line of a table. Counts and scores that should be equal are
compared before they are timed. The compiled loops are loaded first, as in every folder of 200
megapixels or more; "stock decoder" is what smaller folders get. What loading takes is measured by
bench_scaling.py.
"""

import argparse
import contextlib
import copy
import io
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import workloads
from PIL import Image
from pycocotools import coco
from pycocotools.cocoeval import COCOeval
from timing import compare

from segbench.core.files import read_json
from segbench.core.types import Category, CategoryTable
from segbench.evaluation.instance import average_precision as instance
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic.files import evaluate_panoptic
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic.scores import scores as semantic_scores
from segbench.formats import kernel_loading as speed
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from segbench.statistics import intervals

POOLED, PQ, COCO = (
    get_protocol(name) for name in ("semantic-pooled", "coco-panoptic", "coco-instances")
)
CLASSES = 19


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)


def stock(function):
    """Return the function as it runs where the compiled loops are not loaded."""

    def call():
        loops, speed.loaded = speed.loaded, None
        try:
            return function()
        finally:
            speed.loaded = loops

    return call


def pq_from_files(folder):
    return quiet(
        partial(
            evaluate_panoptic,
            folder / "truth.json", folder / "prediction.json",
            truth_folder=folder / "truth", prediction_folder=folder / "prediction",
        )
    )  # fmt: skip


def pq_of_panopticapi(folder):
    from panopticapi.evaluation import pq_compute_single_core

    truth, prediction = (read_json(folder / f"{side}.json") for side in ("truth", "prediction"))
    by_image = {a["image_id"]: a for a in prediction["annotations"]}
    matched = [(a, by_image[a["image_id"]]) for a in truth["annotations"]]
    known = {c["id"]: c for c in truth["categories"]}
    return pq_compute_single_core(
        0, matched, str(folder / "truth"), str(folder / "prediction"), known
    )


def bench_panoptic(folder, options):
    workloads.write_panoptic(folder, options.pairs)
    candidates = {}
    ours = panoptic.scores(pq_from_files(folder), PQ)
    if options.panopticapi:
        sys.path.insert(0, str(options.panopticapi))
        stat = quiet(pq_of_panopticapi, folder)
        known = {c["id"]: c for c in workloads.categories()}
        assert stat.pq_average(known, isthing=None)[0]["pq"] == ours["pq"]
        candidates["panopticapi, single core"] = partial(quiet, pq_of_panopticapi, folder)
    from_files = partial(quiet, pq_from_files, folder)
    assert panoptic.scores(stock(from_files)(), PQ) == ours
    candidates["segbench, from files"] = from_files
    candidates["segbench, from files, stock decoder"] = stock(from_files)
    candidates["decoding alone"] = partial(decode_panoptic, folder)
    candidates["decoding alone, stock decoder"] = stock(partial(decode_panoptic, folder))
    pairs = load_panoptic(folder)
    candidates["segbench, maps in memory"] = partial(count_panoptic, pairs)
    candidates["the same, NumPy alone"] = stock(partial(count_panoptic, pairs))
    counts = pq_from_files(folder)
    candidates["scores of stored counts"] = partial(panoptic.scores, counts, PQ)
    print(f"panoptic quality, {options.pairs} pairs of 640x480")
    compare(candidates, rounds=options.rounds, items=options.pairs, item="pair")
    print()


def decode_panoptic(folder):
    for side in ("truth", "prediction"):
        for path in sorted((folder / side).glob("*.png")):
            read_panoptic_ids(path)


def load_panoptic(folder):
    sides = []
    for side in ("truth", "prediction"):
        listed = read_json(folder / f"{side}.json")["annotations"]
        maps = [read_panoptic_ids(folder / side / a["file_name"]) for a in listed]
        sides.append([(m, a["segments_info"]) for m, a in zip(maps, listed, strict=True)])
    return list(zip(*sides, strict=True))


TABLE = CategoryTable(
    tuple(
        Category(c["id"], c["name"], bool(c["isthing"]), (0, 0, 0)) for c in workloads.categories()
    )
)


def count_panoptic(pairs):
    for (truth, segments), (prediction, predicted) in pairs:
        panoptic.count(
            truth, prediction,
            truth_segments=segments, predicted_segments=predicted, categories=TABLE,
        )  # fmt: skip


def bincount(truth, prediction):
    """The usual line of evaluation scripts: labelled pixels, one number a pair of classes."""
    kept = truth < CLASSES
    keys = CLASSES * truth[kept].astype(int) + prediction[kept]
    return np.bincount(keys, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def bench_semantic(folder, options):
    paths = workloads.write_semantic(folder, max(4, options.pairs // 3))
    maps = [tuple(read_label_map(path) for path in pair) for pair in paths]
    for truth, prediction in maps:
        counts = semantic.count(truth, prediction, num_classes=CLASSES)
        assert (counts.confusion[:CLASSES, :CLASSES] == bincount(truth, prediction)).all()
    count = partial(semantic.count, num_classes=CLASSES)
    print(f"confusion, {len(paths)} pairs of 2048x1024, maps in memory")
    compare(
        {
            "masked np.bincount": lambda: [bincount(*pair) for pair in maps],
            "segbench": lambda: [count(*pair) for pair in maps],
            "segbench, NumPy alone": stock(lambda: [count(*pair) for pair in maps]),
        },
        rounds=options.rounds, items=len(paths), item="pair",
    )  # fmt: skip
    candidates = {}
    if options.cityscapesscripts:
        sys.path.insert(0, str(options.cityscapesscripts))
        candidates["cityscapesScripts"] = partial(
            quiet, miou_of_cityscapes, workloads.write_label_ids(folder / "ids", paths)
        )
    from_png = partial(count_pngs, paths, count)
    candidates |= {
        "segbench, from PNG": from_png,
        "segbench, from PNG, stock decoder": stock(from_png),
        "masked np.bincount, from PNG": lambda: [
            bincount(*(np.asarray(Image.open(path)) for path in pair)) for pair in paths
        ],
        "decoding alone": lambda: [read_label_map(path) for pair in paths for path in pair],
    }
    print("\nthe same from PNG")
    compare(candidates, rounds=options.rounds, items=len(paths), item="pair")
    merged = semantic.merge([count(*pair, image_id=i) for i, pair in enumerate(10 * maps)])
    bench_again(10 * paths, merged, count, options)


def count_pngs(paths, count):
    return [count(*map(read_label_map, pair)) for pair in paths]


def miou_of_cityscapes(paths):
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as peer  # noqa: N813

    peer.args.quiet, peer.args.JSONOutput, peer.args.evalInstLevelScore = True, False, False
    truths, predictions = ([str(path) for path in side] for side in zip(*paths, strict=True))
    return peer.evaluateImgLists(predictions, truths, peer.args)


def bench_again(paths, merged, count, options):
    print(f"\nscoring stored counts again, {len(paths)} images (each ten times)")
    other = get_protocol("detectron2")
    some = list(merged.image_ids)[::2]
    compare(
        {
            "first pass, from PNG": partial(count_pngs, paths, count),
            "under another protocol": partial(semantic_scores, merged, other),
            "a subset of the images": lambda: semantic_scores(merged.subset(some), POOLED),
        },
        rounds=options.rounds, items=len(paths), item="pair",
    )  # fmt: skip
    if len(paths) >= 10:
        seconds = compare(
            {"1,000 bootstrap resamples": partial(
                intervals.interval, {"semantic": merged}, POOLED, "miou", method="percentile"
            )},
            rounds=options.rounds,
        )  # fmt: skip
        print(f"one resample: {1e3 * next(iter(seconds.values())):.2f} us")
    print()


def ap_of_segbench(folder):
    counts = instance.match(folder / "truth.json", folder / "results.json", iou_type="segm")
    return counts, instance.scores(counts, COCO)


def ap_of_pycocotools(folder):
    truth = coco.COCO(str(folder / "truth.json"))
    evaluator = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator.stats


def evaluate_by_pycocotools(truth, detections):
    known = coco.COCO()
    known.dataset = truth
    known.createIndex()
    evaluator = COCOeval(known, known.loadRes(detections), "segm")
    evaluator.evaluate()
    return evaluator


def bench_matching(folder, options):
    truth, detections = (read_json(folder / f"{name}.json") for name in ("truth", "results"))
    print("matching alone, files already parsed and checked")
    compare(
        {
            "pycocotools": lambda: quiet(evaluate_by_pycocotools, truth, copy.deepcopy(detections)),
            "segbench": partial(instance.match_entries, truth, detections, iou_type="segm"),
            "copy of the detections": partial(copy.deepcopy, detections),
        },
        rounds=options.rounds,
    )
    print()


def bench_instances(folder, options):
    number = 2 * options.pairs
    workloads.write_instances(folder, number)
    counts, ours = ap_of_segbench(folder)
    assert list(ours.values())[:12] == quiet(ap_of_pycocotools, folder).tolist()
    bench_matching(folder, options)
    print(f"mask AP, {number} images, {35 * number} detections, from files")
    compare(
        {
            "pycocotools": partial(quiet, ap_of_pycocotools, folder),
            "segbench": partial(ap_of_segbench, folder),
            "scores of stored matches": partial(instance.scores, counts, COCO),
            "1,000 bootstrap resamples": partial(
                intervals.interval, {"segm": counts}, COCO, "ap", method="percentile"
            ),
        },
        rounds=options.rounds,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--panopticapi", type=Path)
    parser.add_argument("--cityscapesscripts", type=Path)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    speed.load()
    with tempfile.TemporaryDirectory() as folder:
        bench_panoptic(Path(folder) / "panoptic", options)
        bench_semantic(Path(folder) / "semantic", options)
        bench_instances(Path(folder) / "instances", options)


if __name__ == "__main__":
    main()
