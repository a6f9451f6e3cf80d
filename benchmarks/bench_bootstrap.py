"""Cost of intervals, comparisons and tie groups from stored counts, and of the plain way.

    OMP_NUM_THREADS=1 python benchmarks/bench_bootstrap.py [--images 500] [--rounds 5]

The plain way draws images, adds their confusions and scores the sum; 20 of its resamples are
timed and multiplied.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import workloads
from timing import compare

from segbench.evaluation.counts import load_counts, save_counts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic.counts import SemanticCounts
from segbench.evaluation.semantic.scores import scores
from segbench.statistics import comparison as stats
from segbench.statistics import intervals
from segbench.statistics.bootstrap import resample_weights
from segbench.statistics.ties import tie_groups

POOLED, COCO, PQ = (
    get_protocol(name) for name in ("semantic-pooled", "coco-instances", "coco-panoptic")
)
PLAIN = 20


def plain(dense, number):
    """Score resamples one by one from dense confusions [N, C+1, C+1]."""
    rng = np.random.default_rng(0)
    for _ in range(number):
        total = dense[rng.integers(0, len(dense), len(dense))].sum(axis=0)
        cells = np.nonzero(total)
        entries = np.stack([np.zeros_like(cells[0]), *cells, total[cells]], axis=1)
        scores(SemanticCounts(len(total) - 1, (0,), entries), POOLED)


def fresh(function, *arguments, **options):
    """Call with the draws made anew, as the first call of a process does."""
    resample_weights.cache_clear()
    return function(*arguments, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    number = options.images
    parts = {"semantic": workloads.semantic_counts(number, 19)}
    other = {"semantic": workloads.semantic_counts(number, 19, seed=0)}
    dense = np.zeros((number, 20, 20), dtype=np.int64)
    np.add.at(dense, tuple(parts["semantic"].entries[:, :3].T), parts["semantic"].entries[:, 3])
    print(f"1,000 resamples of {number} images, 19 classes; plain: {PLAIN} resamples")
    found = compare(
        {
            f"plain resampling, {PLAIN} resamples": partial(plain, dense, PLAIN),
            "draws alone": partial(fresh, resample_weights, number, 1000, 0),
            "mIoU, percentile, draws included": partial(
                fresh, intervals.interval, parts, POOLED, "miou", method="percentile"
            ),
            "mIoU, t interval, draws included": partial(
                fresh, intervals.interval, parts, POOLED, "miou"
            ),
            "mIoU, t interval": partial(intervals.interval, parts, POOLED, "miou"),
            "comparison of two runs": partial(stats.compare, parts, other, POOLED, "miou"),
        },
        rounds=options.rounds,
    )
    names = list(found)
    ratio = 1000 / PLAIN * found[names[0]] / found[names[2]]
    print(f"1,000 plain resamples / percentile interval: {ratio:.0f}x\n")
    others(number, options.rounds)
    board(number, parts, options.rounds)


def others(number, rounds):
    panoptic = {"panoptic": workloads.panoptic_counts(number)}
    ade = {"semantic": workloads.semantic_counts(number, 150)}
    instance = {"segm": workloads.instance_counts(number)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.npz"
        save_counts(path, ade)
        print(f"other tasks, {number} images, 1,000 resamples, t intervals")
        compare(
            {
                "mIoU, 150 classes": partial(intervals.interval, ade, POOLED, "miou"),
                "load counts.npz, 150 classes": partial(load_counts, path),
                "PQ, 133 classes": partial(intervals.interval, panoptic, PQ, "pq"),
                "AP, 80 classes, 35 detections an image": partial(
                    intervals.interval, instance, COCO, "ap"
                ),
                "AP, 200 resamples": partial(
                    intervals.interval, instance, COCO, "ap", resamples=200
                ),
                "AR, 80 classes": partial(intervals.interval, instance, COCO, "ar_100"),
            },
            rounds=max(1, rounds // 2),
        )
    print()


def board(number, parts, rounds):
    counts = parts["semantic"]
    rng = np.random.default_rng(3)
    rows = {}
    for row in range(50):
        entries = counts.entries.copy()
        wrong = entries[:, 1] != entries[:, 2]
        entries[wrong, 3] += rng.integers(0, 50 * (row + 1), wrong.sum())
        truth = SemanticCounts(19, counts.image_ids, balanced(entries, counts.entries))
        rows[f"row {row}"] = {"semantic": truth}
    print(f"tie groups of a board, {number} images, 19 classes")
    compare(
        {f"{n} rows": partial(tie_groups, dict(list(rows.items())[:n]), POOLED, "miou")
         for n in (10, 50)},
        rounds=rounds,
    )  # fmt: skip


def balanced(entries, before):
    """Take what was added to wrong cells from the right cell of the same truth class."""
    entries = entries.copy()
    added = entries[:, 3] - before[:, 3]
    right = np.flatnonzero(entries[:, 1] == entries[:, 2])
    owner = np.searchsorted(right, np.arange(len(entries)), side="right") - 1
    np.subtract.at(entries[:, 3], right[owner], added)
    return entries[entries[:, 3] > 0]


if __name__ == "__main__":
    main()
