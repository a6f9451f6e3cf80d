"""COCO AP from two JSON files, beside pycocotools and the engines that are installed.

    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python benchmarks/bench_instances.py [--images 1000]
        [--rounds 5] [--peers FOLDER]

Every evaluator runs in a fresh process: load, evaluate, accumulate, summarise. Imports and the
start of numba are not in the first column but in ``process``, CPU time of the whole process; the
loops were compiled before. ``--peers`` is a folder of packages that are not installed
here (``pip install --target FOLDER hotcoco faster-coco-eval vernier ultrafast-pycocotools``);
those that are missing are left out. The 12 numbers are compared with pycocotools'.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import workloads

PEER = """
gt = COCO(truth)
found = COCOeval(gt, (getattr(gt, "loadRes", None) or gt.load_res)(results), kind)
found.evaluate(); found.accumulate(); found.summarize()
numbers = [float(value) for value in list(found.stats)[:12]]
"""
NATIVE = """
truths = CocoDataset.from_json(open(truth, "rb").read())
evaluator = Evaluator(iou={"bbox": Bbox, "segm": Segm}[kind](), parity_mode="strict")
numbers = list(evaluator.evaluate(truths, open(results, "rb").read(), num_threads=1).stats)[:12]
"""
OURS = """
found = scores(match(Path(truth), Path(results), iou_type=kind), protocol)
numbers = [-1.0 if value is None else value for value in list(found.values())[:12]]
"""
BOTH = """
found = [scores(part, protocol) for part in match_files(Path(truth), Path(results)).values()]
numbers = None
"""
STORED = """
found = scores(counts, protocol)
numbers = None
"""
IMPORTS = """
from pathlib import Path
from segbench.evaluation.instance.average_precision import match, match_files, scores
from segbench.evaluation.protocol import get_protocol
import numpy as np
import segbench.evaluation.instance.ap_kernels, segbench.evaluation.instance.reading
from segbench.evaluation import _rle_kernels
nothing = np.zeros(1, dtype=np.int64)
_rle_kernels.intersect(nothing, 0, nothing, 0)  # starts numba
protocol = get_protocol("coco-instances")
"""
CANDIDATES = {
    "pycocotools": (
        "from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval", PEER,
    ),
    "segbench, with validation": (IMPORTS, OURS),
    "segbench, masks and boxes at once": (IMPORTS, BOTH),
    "segbench, stored matches again": (
        IMPORTS + "counts = match(Path(truth), Path(results), iou_type=kind)", STORED,
    ),
    "hotcoco": ("from hotcoco import COCO, COCOeval", PEER),
    "ultrafast-pycocotools": ("from ultrafast_pycocotools import COCO, COCOeval", PEER),
    "vernier, strict": (
        "from vernier.instance import Bbox, CocoDataset, Evaluator, Segm", NATIVE,
    ),
    "faster-coco-eval": (
        "from faster_coco_eval import COCO, COCOeval_faster as COCOeval", PEER,
    ),
    "json.load of both files": (
        "import json", "json.load(open(truth)); json.load(open(results)); numbers = None",
    ),
}  # fmt: skip
PROGRAM = """
import contextlib, io, json, resource, sys, time
truth, results, kind = sys.argv[1:]
{imports}
begin = time.process_time()
with contextlib.redirect_stdout(io.StringIO()):
{body}
seconds = time.process_time() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("@" + json.dumps([seconds, peak, numbers, time.process_time()]))
"""


def run(name, files, kind, environment):
    """Return seconds, peak MiB and numbers of one fresh process; None where it fails."""
    imports, body = CANDIDATES[name]
    body = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = PROGRAM.format(imports=imports, body=body)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, files), kind],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        if "ModuleNotFoundError" not in done.stderr:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.split("@")[1])


def compare(files, kind, rounds, environment):
    found = {name: [] for name in CANDIDATES}
    run("segbench, with validation", files, kind, environment)  # compiles
    for _ in range(rounds):
        for name, rows in found.items():
            if None not in rows:
                rows.append(run(name, files, kind, environment))
    first = statistics.median(row[0] for row in found["pycocotools"])
    expected = found["pycocotools"][0][2]
    titles = f"{'ms':>9} {'lowest':>9} {'ratio':>7} {'process':>9} {'peak MiB':>9}"
    print(f"{'evaluator':36} {titles}  12 numbers")
    for name, rows in found.items():
        if None in rows:
            continue
        median, lowest = (f(row[0] for row in rows) for f in (statistics.median, min))
        peak, numbers = max(row[1] for row in rows), rows[0][2]
        equal = {True: "equal", False: "differ"}[numbers == expected] if numbers else ""
        whole = statistics.median(row[3] for row in rows)
        print(
            f"{name:36} {1e3 * median:9.1f} {1e3 * lowest:9.1f} {first / median:7.1f} "
            f"{1e3 * whole:9.1f} {peak:9.0f}  {equal}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--files", type=Path, nargs=2, help="Truth and results of your own.")
    parser.add_argument("--kinds", nargs="+", default=["segm", "bbox"])
    options = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    if options.peers:
        environment["PYTHONPATH"] = str(options.peers.resolve())
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or (Path(folder) / "truth.json", Path(folder) / "results.json")
        if not options.files:
            workloads.write_instances(Path(folder), options.images)
        for kind in options.kinds:
            print(f"\n{kind}")
            compare(files, kind, options.rounds, environment)


if __name__ == "__main__":
    main()
