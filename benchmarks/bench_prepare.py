"""`segbench prepare` on data in COCO's panoptic form: images a second, and memory.

    python benchmarks/bench_prepare.py [--images 300] [--many 2000] [--workers 2]

Photographs are JPEG of 640x480 with regions and grain, about 120 KB, panoptic PNGs have 5 to 25
segments; 24 scenes are made and repeated under other names with a few bytes of their own. Each
measurement is a process of its own: seconds between its first and last image would hide what
starting costs, so the whole command is timed. Memory is the peak of the process itself and of
its largest worker.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from workloads import panoptic_pair

from segbench.datasets import dataset_info
from segbench.formats.label_maps import id2rgb
from segbench.formats.png import encode_png

SCENES = 24


def main():
    arguments = read_arguments()
    if arguments.measure:
        measure(*arguments.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        few, many = arguments.images, arguments.many
        raw = {count: write_raw(root / f"raw{count}", count) for count in {few, 200, many}}
        print(f"{'images':>8} {'workers':>8} {'seconds':>9} {'images/s':>9} {'CPU ms/image':>13} "
              f"{'peak MB':>9} {'worker MB':>10}")  # fmt: skip
        runs = [(few, 1), (few, arguments.workers), (200, arguments.workers)]
        for count, workers in [*runs, (many, arguments.workers)]:
            run(raw[count], root / f"out-{count}-{workers}", count, workers)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(raw, out, count, workers):
    command = [sys.executable, __file__, "--measure", raw, out, str(workers)]
    begin = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    found = json.loads(done.stdout)
    print(f"{count:8} {workers:8} {seconds:9.2f} {count / seconds:9.1f} "
          f"{1e3 * found['cpu_s'] / count:13.2f} {found['self_mb']:9.0f} "
          f"{found['worker_mb']:10.0f}", flush=True)  # fmt: skip


def measure(raw, out, workers):
    from segbench.datasets import prepare_dataset

    options = {"instances": "panoptic"}
    prepare_dataset("coco2017", Path(out), raw=Path(raw), options=options, workers=int(workers))
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    peaks = {"self_mb": own.ru_maxrss / 1024, "worker_mb": children.ru_maxrss / 1024}
    print(json.dumps({"cpu_s": cpu, **peaks}))


def write_raw(folder, count):
    """Write ``count`` training images in the layout of COCO 2017's panoptic files."""
    classes = dataset_info("coco2017").categories
    scenes = [make_scene(np.random.default_rng(seed), classes) for seed in range(SCENES)]
    pngs = folder / "annotations" / "panoptic_train2017"
    for path in (folder / "train2017", pngs):
        path.mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        jpeg, png, segments = scenes[number % SCENES]
        stem = f"{number:012d}"
        (folder / "train2017" / f"{stem}.jpg").write_bytes(jpeg + stem.encode())
        (pngs / f"{stem}.png").write_bytes(png)
        images.append({"id": number, "file_name": f"{stem}.jpg", "width": 640, "height": 480})
        annotations.append(
            {"image_id": number, "file_name": f"{stem}.png", "segments_info": segments}
        )
    document = {"images": images, "annotations": annotations, "categories": []}
    (pngs.parent / "panoptic_train2017.json").write_text(json.dumps(document))
    return folder


def make_scene(rng, classes):
    """Return the bytes of a photograph and of its panoptic PNG, and the segments."""
    (ids, segments), _ = panoptic_pair(rng, classes=len(classes))
    for segment in segments:
        segment["category_id"] = classes[segment["category_id"] - 1].id
    colours = rng.integers(0, 256, (4096, 3))[ids % 4096]
    pixels = np.clip(colours + rng.normal(0, 12, colours.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=80)
    return stream.getvalue(), encode_png(id2rgb(ids)), segments


if __name__ == "__main__":
    main()
