"""The worked example of the README: its commands, files and printed numbers, run as they stand."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.datasets.classes.coco import CATEGORIES
from segbench.formats.label_maps import id2rgb

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SEGBENCH_SHARED", ROOT.parent / "shared"))
STEMS = ("000000142238", "000000439180")
pytestmark = pytest.mark.slow


def example():
    """Return the commands, the files to write and the output the section shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("### Worked example")[1].split("\n## ")[0]
    commands = [line.strip() for line in re.findall(r"^    (\S.*)$", section, re.MULTILINE)]
    blocks = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    printed = re.search(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return commands, dict(blocks), printed.group(1)


def generated(folder):
    """Write a folder of panopticapi's layout: two images, four things and four stuff classes."""
    things = [c for c in CATEGORIES if c.isthing][:4]
    stuff = [c for c in CATEGORIES if not c.isthing][:4]
    annotations, images = [], []
    for number, stem in enumerate(STEMS):
        ids = np.repeat(np.arange(1, 9), 6)[:, None] + np.zeros((1, 64), dtype=np.int64)
        ids[:, :5] = 0
        segments = [
            {"id": i, "category_id": c.id, "iscrowd": 0, "area": 6 * 59, "bbox": [5, 0, 59, 6]}
            for i, c in enumerate([*things, *stuff], start=1)
        ]
        for name in ("panoptic_examples", "input_images"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(id2rgb(ids)).save(folder / f"panoptic_examples/{stem}.png")
        photo = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / f"input_images/{stem}.jpg")
        image_id = int(stem)
        images.append({"id": image_id, "file_name": f"{stem}.jpg", "height": 48, "width": 64})
        annotations.append(
            {"image_id": image_id, "file_name": f"{stem}.png", "segments_info": segments}
        )
    categories = [
        {"id": c.id, "name": c.name, "isthing": int(c.isthing), "color": list(c.color)}
        for c in CATEGORIES
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "panoptic_examples.json").write_text(json.dumps(content))


@pytest.fixture
def checkout(tmp_path):
    for name in ("segbench", "workflow", "envs", "report"):
        ignore = shutil.ignore_patterns("__pycache__", "submissions")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "torch.py").write_text('raise ImportError("a submission must not need torch")\n')
    return tmp_path


def shell(folder, command):
    """Run a command of the README with this Python's segbench and one core a process."""
    words = shlex.split(command, comments=True)
    if words[0] == "segbench":
        words = [sys.executable, "-m", *words]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=folder, env=environment, timeout=300, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout, done.stderr


def test_the_worked_example_is_right_as_it_stands(checkout):
    commands, files, printed = example()
    assert commands[0].startswith("git clone https://github.com/cocodataset/panopticapi")
    assert list(files) == ["workflow/submissions/sample.yaml", "sample.yaml"]
    assert len(files["workflow/submissions/sample.yaml"].splitlines()) <= 10
    generated(checkout / "panopticapi/sample_data")
    assert shell(checkout, commands[1])[0] == printed
    for command in commands[2:-1]:
        shell(checkout, command)
    for name, content in files.items():
        (checkout / name).write_text(content)
    said = shell(checkout, commands[-1])
    assert "open results-sample/report/index.html" in "".join(said)
    with (checkout / "results-sample/table.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["experiment"], row["status"], float(row["pq"])) == ("sample", "ok", 1.0)
    page = (checkout / "results-sample/report/index.html").read_text()
    assert 'data-name="The truth itself"' in page
    assert "reported PQ 100.0, here" in page


@pytest.mark.shared_data
def test_the_printed_numbers_are_those_of_the_sample(tmp_path):
    sample = SHARED / "data" / "panopticapi_sample"
    if not sample.is_dir():
        pytest.skip("the optional folder data/panopticapi_sample is not there (SEGBENCH_SHARED)")
    shutil.copytree(sample, tmp_path / "panopticapi/sample_data")
    (tmp_path / "segbench").symlink_to(ROOT / "segbench")
    commands, _, printed = example()
    assert shell(tmp_path, commands[1])[0] == printed
