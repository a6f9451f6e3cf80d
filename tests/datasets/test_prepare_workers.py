"""Preparing with several processes: the same bytes, no orphan, and memory that stays."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segbench.core.files import read_jsonl
from segbench.core.provenance import json_digest
from segbench.datasets import prepare_dataset
from segbench.datasets.prepare.documents import ContentDigest

OWN = '''
"""Noise: many small images made on request, each after a short wait."""

import os
import resource
import time
from functools import partial

import numpy as np

from segbench.datasets.source import (
    Category, DatasetInfo, RawImage, SourceImage, compose_panoptic, instances_from_masks,
)

INFO = DatasetInfo(
    name="noise", display_name="Noise", description="Squares on noise.",
    categories=(Category(1, "square", True, (1, 2, 3)), Category(2, "ground", False, (4, 5, 6))),
    tasks=("semantic", "instance", "panoptic"), splits={"train": None, "val": None},
    protocols={"semantic": "pennfudan-2", "instance": "coco-instances",
               "panoptic": "coco-panoptic"},
    licence="CC0", citation="none", options={"train": 90, "val": 10, "wait": 0.0},
)


def sources(raw, options):
    return {split: [
        SourceImage(f"{split}{n:05d}", partial(load, n + 100_000 * (split == "val"),
                                               options["wait"]))
        for n in range(options[split])
    ] for split in INFO.splits}


def load(seed, wait):
    time.sleep(wait)
    rng = np.random.default_rng(seed)
    mask = np.zeros((1, 24, 32), dtype=bool)
    mask[0, 2:12, 3 : 4 + seed % 25] = True
    semantic = np.where(mask[0], 0, 1).astype(np.uint8)
    instances = instances_from_masks(mask, [0])
    return RawImage(
        rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (24, 32), semantic, instances,
        compose_panoptic(semantic, instances, table=INFO.table),
    )
'''
RUN = """
import json, resource, sys
from pathlib import Path
from segbench.datasets import prepare_dataset
out, options, workers = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
if __name__ == "__main__":
    prepare_dataset("noise", out, options=options, workers=workers)
    own, most = (resource.getrusage(who).ru_maxrss for who in (0, -1))
    print(own, most)
"""


@pytest.fixture(autouse=True)
def noise(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "noise.py").write_text(OWN)
    monkeypatch.setenv("SEGBENCH_DATASETS_PATH", str(folder))
    return folder


@pytest.fixture
def start(tmp_path):
    """Start a preparing process in a session of its own; none is left at the end."""
    script = tmp_path / "run_prepare.py"
    script.write_text(RUN)
    running = []

    def begin(out, *, options=None, workers=2):
        command = [sys.executable, str(script), str(out), json.dumps(options or {}), str(workers)]
        log = tmp_path / f"log{len(running)}.txt"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        running.append(process)
        process.log = log
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def snapshot(root):
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".prepare.jsonl"]
    return {p.relative_to(root): p.read_bytes() for p in files}


def workers_of(process):
    """Return the ids of the worker processes that make images."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def wait_for_images(process, out, count=4):
    deadline = time.monotonic() + 60
    while len(list(out.glob("images/train/train*.png"))) < count:
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_gone(pids):
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def _is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_the_bytes_are_the_same_whatever_the_workers(start, tmp_path):
    one = prepare_dataset("noise", tmp_path / "one")
    two = start(tmp_path / "two", workers=2)
    assert two.wait() == 0, two.log.read_text()
    assert snapshot(tmp_path / "two") == snapshot(one.root)
    assert len(snapshot(one.root)) == 3 * 100 + 4 + 2 + 1


def test_the_digest_fed_image_by_image_is_that_of_the_whole(tmp_path):
    dataset = prepare_dataset("noise", tmp_path / "one")
    contents = {
        split: [
            [row["image_id"], Path(row["image"]).stem, row["content"]]
            for row in read_jsonl(dataset.root / f"{split}.jsonl")
        ]
        for split in ("train", "val")
    }
    classes = [[c.id, c.name, c.isthing] for c in dataset.table.categories]
    assert dataset.digest == json_digest(["noise", classes, contents])
    from segbench.datasets import dataset_info

    assert ContentDigest(dataset_info("noise")).hexdigest() == json_digest(["noise", classes, {}])


@pytest.mark.fault(13)
def test_a_killed_worker_is_a_clear_error_and_the_next_run_goes_on(start, tmp_path):
    out = tmp_path / "out"
    process = start(out, options={"wait": 0.03})
    wait_for_images(process, out)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    assert process.wait(60) != 0
    error = process.log.read_text()
    assert "a worker process ended before its work was done" in error
    assert "run the same command again" in error
    assert not (out / "dataset.json").exists()
    done = (out / ".prepare.jsonl").read_text().count('"row"')
    assert done > 0
    kept = {p: p.stat().st_mtime_ns for p in sorted(out.glob("images/train/*.png"))[:done]}
    again = start(out, options={"wait": 0.03})
    assert again.wait() == 0, again.log.read_text()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.fault(13)
def test_no_worker_outlives_a_parent_that_was_killed(start, tmp_path, kill):
    out = tmp_path / "out"
    process = start(out, options={"wait": 0.03})
    wait_for_images(process, out)
    workers = workers_of(process)
    assert len(workers) == 2
    if kill == signal.SIGINT:
        os.killpg(process.pid, kill)  # as a terminal does: everybody gets it
    else:
        process.send_signal(kill)
    assert process.wait(30) != 0
    assert_gone(workers)
    assert not (out / "dataset.json").exists()


def test_a_load_that_cannot_travel_is_done_in_this_process(noise, tmp_path, capsys):
    """A closure, as in a dataset file of a few lines."""
    begin = OWN.index("partial(load,")
    end = OWN.index("for n in range")
    text = OWN[:begin] + "lambda n=n: load(n, 0.0))\n        " + OWN[end:]
    (noise / "local.py").write_text(text.replace('name="noise"', 'name="local"'))
    dataset = prepare_dataset("local", tmp_path / "local", workers=2, options={"val": 0})
    assert dataset.description["splits"] == {"train": 90}
    assert "one process, because its `load`" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_dataset(start, tmp_path):
    """Ten times the images, of thirty kilobytes in documents each, in the same memory."""
    peaks = []
    for count in (200, 2000):
        process = start(tmp_path / str(count), options={"train": count}, workers=2)
        assert process.wait(180) == 0, process.log.read_text()
        last = process.log.read_text().splitlines()[-1]
        peaks.append([int(value) / 1024 for value in last.split()])
    (own, worker), (own_of_many, worker_of_many) = peaks
    assert own_of_many - own < 8, "MiB for 1,800 images more"
    assert worker_of_many - worker < 8
