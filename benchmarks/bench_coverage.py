"""How often intervals hold the score of all images, and how often equal runs are told apart.

    OMP_NUM_THREADS=1 python benchmarks/bench_coverage.py [--rounds 300] [--tasks instance] \
        [--settings coco,100,80 uneven,50,20] [--pairs]

A setting is how often classes occur (even, uneven, coco), images, classes. Every sample of a
made-up world (coverage_worlds.py) is drawn anew; the score of all images is that of 100,000 others
or more.
Samples without an interval, because too few images show their classes, are counted apart.
`--pairs`: also how often two runs of one skill are called separable.
"""

import argparse
import time

import numpy as np
from coverage_worlds import World

from segbench.evaluation import resampled
from segbench.evaluation.protocol import get_protocol
from segbench.statistics import comparison as stats
from segbench.statistics import intervals

SCORES = {
    "instance": ("coco-instances", "ap"),
    "panoptic": ("coco-panoptic", "pq"),
    "semantic": ("semantic-pooled", "miou"),
}
SETTINGS = (
    *("even,100,3", "even,50,20", "uneven,50,8", "uneven,100,8", "uneven,50,20", "uneven,100,20"),
    *("uneven,200,20", "uneven,500,20", "coco,50,80", "coco,100,80", "coco,200,80", "coco,500,80"),
    *("coco,2000,80", "coco,5000,80"),
)
RESAMPLES = 250
POPULATION = 100_000
WORLDS = 3
"""Of each setting, in turns."""


def truth_of(world, task, seed, images):
    """Return the score of very many images."""
    protocol, metric = SCORES[task]
    values = []
    for part in range(4):
        rng = np.random.default_rng([seed, part, 99])
        number = max(POPULATION // 4, 10 * images)
        counts = world.counts(task, world.scenes(rng, number), rng)
        values.append(resampled.statistic(counts, get_protocol(protocol), metric).estimate)
    return float(np.mean(values))


def cover(task, kind, images, classes, rounds, pairs):
    """Return a row (truth held: below, in, above; width; none shown; told apart) a sample."""
    protocol, metric = get_protocol(SCORES[task][0]), SCORES[task][1]
    worlds = [World.of(kind, classes, seed) for seed in range(WORLDS)]
    truths = [truth_of(world, task, seed, images) for seed, world in enumerate(worlds)]
    rows = []
    for number in range(rounds):
        world, truth = worlds[number % WORLDS], truths[number % WORLDS]
        rng = np.random.default_rng([number, images, classes, 7])
        scenes = world.scenes(rng, images)
        first, second = (world.counts(task, scenes, rng) for _ in range(2))
        options = {"resamples": RESAMPLES, "seed": number}
        found = intervals.interval(first, protocol, metric, **options)
        if found.low is None or found.high is None:
            rows.append([np.nan] * 5)
            continue
        held = [truth < found.low, found.low <= truth <= found.high, truth > found.high]
        apart = np.nan
        if pairs:
            apart = stats.compare(first, second, protocol, metric, **options).separable
        rows.append([*held, found.high - found.low, apart])
    return np.array(rows, dtype=np.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--tasks", nargs="+", default=list(SCORES), choices=list(SCORES))
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    options = parser.parse_args()
    print(f"{options.rounds} samples of {WORLDS} worlds each; % of intervals of 95 %")
    print(f"{'':22} {'none':>6} {'hold':>6} {'below':>6} {'above':>6} {'width':>7} {'apart':>6}")
    for setting in options.settings:
        kind, images, classes = setting.split(",")
        for task in options.tasks:
            begin = time.perf_counter()
            rows = cover(task, kind, int(images), int(classes), options.rounds, options.pairs)
            shown = rows[~np.isnan(rows[:, 0])]
            below, held, above, width, apart = shown.mean(axis=0) if len(shown) else [np.nan] * 5
            none = 1 - len(shown) / len(rows)
            label = f"{images}/{classes} {kind} {SCORES[task][1]}"
            seconds = (time.perf_counter() - begin) / options.rounds
            print(
                f"{label:22} {100 * none:6.1f} {100 * held:6.1f} {100 * below:6.1f} "
                f"{100 * above:6.1f} {width:7.3f} {100 * apart:6.1f}   ({seconds:.2f} s a sample)",
                flush=True,
            )


if __name__ == "__main__":
    main()
