"""Time and memory of scoring label maps and panoptic files by number of images and workers.

    OMP_NUM_THREADS=1 python benchmarks/bench_scaling.py [--images 100 300 1000 3000] [--rounds 3]
    OMP_NUM_THREADS=1 python benchmarks/bench_scaling.py --efficiency

Every measurement is a process of its own. Sixty different pairs of 640x480 (panoptic) or of
1024x512 (semantic) are linked under as many names as there are images. Efficiency is given twice:
from the wall clock (the shortest of all rounds), which means something on an idle machine or
ahead of all others (`chrt -r 10 python ...` as root) only, and from CPU time as if nothing that the
parent does (JSON, pairing, joining) overlapped with its workers. `--efficiency`: that alone, of
2,000 images.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import workloads

from segbench.core.files import read_json, write_json

DIFFERENT = 60


def write_panoptic(folder, number, name=""):
    """Link the images of ``folder/base`` under ``number`` names, with their JSON files."""
    base = folder / "base"
    if not base.exists():
        workloads.write_panoptic(base, DIFFERENT)
    target = folder / (name or str(number))
    for side in ("truth", "prediction"):
        content = read_json(base / f"{side}.json")
        (target / side).mkdir(parents=True)
        annotations = []
        for i in range(number):
            one = content["annotations"][i % DIFFERENT]
            (target / side / f"{i:05}.png").hardlink_to(base / side / one["file_name"])
            annotations.append({**one, "image_id": i, "file_name": f"{i:05}.png"})
        write_json(target / f"{side}.json", {**content, "annotations": annotations}, indent=None)
    return target


def write_semantic(folder, number, name=""):
    base = folder / "base"
    if not base.exists():
        workloads.write_semantic(base, DIFFERENT, height=512, width=1024)
    target = folder / (name or str(number))
    for side in ("truth", "prediction"):
        (target / side).mkdir(parents=True)
        for i in range(number):
            source = base / side / f"{i % DIFFERENT:04}.png"
            (target / side / f"{i:05}.png").hardlink_to(source)
    return target


def count_panoptic(folder, workers):
    from segbench.evaluation.panoptic.files import evaluate_panoptic

    return evaluate_panoptic(
        folder / "truth.json", folder / "prediction.json",
        truth_folder=folder / "truth", prediction_folder=folder / "prediction", workers=workers,
    )  # fmt: skip


def count_semantic(folder, workers):
    from segbench.evaluation.protocol import get_protocol
    from segbench.evaluation.semantic.folders import count_folder

    protocol = get_protocol("semantic-pooled")
    sides = (folder / "truth", folder / "prediction")
    return count_folder(*sides, protocol=protocol, num_classes=19, workers=workers).counts


TASKS = {
    "panoptic": (write_panoptic, count_panoptic),
    "semantic": (write_semantic, count_semantic),
}


START = """
import resource, sys, time
from segbench import formats, speed
from segbench.evaluation import panoptic, _runs
begin = time.process_time()
speed.load()
maps = [formats.read_panoptic_ids(sys.argv[1]) for _ in range(2)]
_runs.count_id_pairs(*maps)
print(time.process_time() - begin)
"""


def report_start(folder):
    """Print what the first pair costs with an empty cache of compiled code, and with a full one."""
    workloads.write_panoptic(folder, 1)
    command = [sys.executable, "-c", START, str(folder / "truth" / "0.png")]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    for state in ("compiled for the first time", "compiled before", "compiled before"):
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        print(f"first pair, {state}: {float(done.stdout):.2f} CPU s")


def measure(task, folder, workers):
    """Count in this process, the compiled loops ready; print what it took as JSON."""
    from segbench.formats import kernel_loading as speed

    speed.load()
    TASKS[task][1](folder.parent / "warm", 1)
    wall, cpu = time.perf_counter(), time.process_time()
    counts = TASKS[task][1](folder, workers)
    wall, parent = time.perf_counter() - wall, time.process_time() - cpu
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    arrays = [each for each in counts.to_arrays().values() if isinstance(each, np.ndarray)]
    result = {
        "wall": wall,
        "parent": parent,
        "children": children.ru_utime + children.ru_stime,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "counts": sum(each.nbytes for each in arrays) / 2**20,
    }
    print(json.dumps(result))


def in_turns(task, jobs, rounds):
    """Return of each (folder, workers) the round with the least CPU time, and the least wall."""
    found = {job: [] for job in jobs}
    for _ in range(rounds):
        for (folder, workers), results in found.items():
            command = [sys.executable, __file__, "--measure", task, str(folder), str(workers)]
            done = subprocess.run(command, capture_output=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        job: {
            **min(results, key=lambda each: each["parent"] + each["children"]),
            "wall": min(each["wall"] for each in results),
        }
        for job, results in found.items()
    }


def report(task, folder, options):
    write = TASKS[task][0]
    folders = {number: write(folder / task, number) for number in options.images}
    write(folder / task, 2, "warm")
    print(f"\n{task}")
    if not options.efficiency:
        report_sizes(task, folders, options)
    report_workers(task, folders[max(options.images)], options)


def report_sizes(task, folders, options):
    alone = in_turns(task, [(each, 1) for each in folders.values()], options.rounds)
    print(f"{'images':>8} {'CPU s':>8} {'ms/image':>9} {'peak MiB':>9} {'counts MiB':>11}")
    for number, found in zip(folders, alone.values(), strict=True):
        print(
            f"{number:8} {found['parent']:8.3f} {1e3 * found['parent'] / number:9.3f} "
            f"{found['peak']:9.0f} {found['counts']:11.2f}"
        )
    seconds = np.array([found["parent"] for found in alone.values()])
    if len(seconds) > 2:
        fit = np.corrcoef(np.array(options.images), seconds)[0, 1] ** 2
        print(f"R^2 of a line through time over images: {fit:.5f}")


def report_workers(task, folder, options):
    jobs = [(folder, workers) for workers in (1, *options.workers)]
    found = in_turns(task, jobs, options.rounds)
    one = found[folder, 1]
    print(f"{'workers':>8} {'CPU s':>8} {'parent':>8} {'wall s':>8} {'by CPU':>8} {'by wall':>8}")
    for (_, workers), each in found.items():
        path = each["parent"] + each["children"] / workers
        print(
            f"{workers:8} {each['parent'] + each['children']:8.3f} {each['parent']:8.3f} "
            f"{each['wall']:8.3f} {one['parent'] / workers / path:8.2f} "
            f"{one['wall'] / workers / each['wall']:8.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--efficiency", action="store_true", help="of workers on 2,000 images")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        task, folder, workers = options.measure
        measure(task, Path(folder), int(workers))
        return
    if options.efficiency:
        options.images, options.rounds = [2000], max(options.rounds, 5)
    with tempfile.TemporaryDirectory() as folder:
        if not options.efficiency:
            report_start(Path(folder) / "start")
        for task in TASKS:
            report(task, Path(folder), options)


if __name__ == "__main__":
    main()
