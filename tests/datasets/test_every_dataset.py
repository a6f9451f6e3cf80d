"""Every dataset, from the archives of its publisher to a scored row; new ones are picked up.

A dataset is tested with its miniature (``miniatures/__init__.py``): the layout, file names and
encodings of its archives with a few tiny images in them.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.core.files import read_json
from segbench.core.types import TASKS
from segbench.datasets import dataset_info, dataset_infos, prepare_dataset
from segbench.datasets.download.archives import Mirror, download_archives
from segbench.datasets.download.digests import read_digests
from segbench.evaluation.protocol import get_protocol
from tests.datasets.archive_maker import make_archives
from tests.datasets.fault_server import FaultServer
from tests.datasets.miniatures import builder_of, options_of

NAMES = list(dataset_infos())
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}|")
MODELS = {
    "semantic": "fcn_tiny",
    "instance": "mask_rcnn_tiny",
    "panoptic": "panoptic_fpn_tiny",
}
SCORED_WITH = {"panoptic": TASKS, "instance": ("instance",), "semantic": ("semantic",)}
"""Tasks one tiny network of each kind gives predictions for."""


SMALL = {"partial-split", "absent-class", "void-share"}
"""Warnings that a handful of images deserves."""


@pytest.fixture(scope="module", params=NAMES)
def prepared(request, tmp_path_factory):
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    return prepare_dataset(
        name, folder / "prepared", raw=raw_of(name, folder), options=options_of(name)
    )


def raw_of(name, folder):
    """Return the raw folder: downloaded from this machine where the dataset has archives."""
    info, builder = dataset_info(name), builder_of(name)
    if builder is None:
        return None
    builder(folder / "built")
    if (folder / "built" / "raw").is_dir():
        return folder / "built" / "raw"
    digests = make_archives(info, folder / "built", folder / "site")
    with FaultServer(folder=folder / "site") as server:
        mirror = Mirror(server.url, read_digests(digests))
        download_archives(info, folder / "raw", mirror=mirror)
    return folder / "raw"


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_is_sound(name):
    info = dataset_info(name)
    ids = [category.id for category in info.categories]
    assert len(set(ids)) == len(ids) and min(ids) >= 1
    assert len(ids) <= 255, "train ids are stored in 8 bits, 255 is ignored"
    assert len({category.name for category in info.categories}) == len(ids)
    colors = [category.color for category in info.categories]
    assert len(set(colors)) == len(colors)
    assert all(0 <= channel <= 255 for color in colors for channel in color)
    assert info.display_name and info.description and info.licence and info.citation
    assert set(info.protocols) == set(info.tasks) and set(info.tasks) <= set(TASKS)
    for task in info.tasks:
        get_protocol(info.protocols[task], task=task)
    if info.tasks != ("semantic",):
        assert any(category.isthing for category in info.categories)
    assert info.splits and all(count is None or count > 0 for count in info.splits.values())


@pytest.mark.parametrize("name", NAMES)
def test_its_archives_can_be_fetched_or_asked_for(name):
    info = dataset_info(name)
    names = [archive.name for archive in info.archives]
    assert len(set(names)) == len(names)
    for archive in info.archives:
        assert Path(archive.name).name == archive.name and "." in archive.name
        assert DIGEST.fullmatch(archive.digest), archive.name
        assert archive.num_bytes is None or archive.num_bytes > 0
        assert archive.urls or archive.manual, f"{archive.name}: neither an address nor a way"
        assert all(re.match(r"https?://[^/]+/.", url) for url in archive.urls)
        folder = Path(archive.unpack_to)
        assert not folder.is_absolute() and ".." not in folder.parts
    if info.archives or builder_of(name):
        assert info.layout, "a dataset that is read from files says which"
        assert info.homepage or info.folder, "of a dataset of one's own none is asked for"


def test_the_miniature_has_what_the_board_needs(prepared):
    """At least two splits with images, and every task's truth in each."""
    description = prepared.description
    assert len(description["splits"]) >= 2
    pixels = [split["pixels"] for split in description["class_histogram"].values()]
    totals = [sum(column) for column in zip(*pixels, strict=True)]
    assert sum(totals) > 0
    assert all(count > 0 for count in description["splits"].values())
    for split in description["splits"]:
        if "instance" in prepared.tasks:
            assert read_json(prepared.instances_file(split))["annotations"]
        if "panoptic" in prepared.tasks:
            assert read_json(prepared.panoptic_file(split))["annotations"]


def test_what_was_prepared_is_found_clean(prepared, capsys):
    assert command("check-data", prepared.root, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 0 and report["images"] == prepared.description["splits"]
    assert report["class_histogram"] == prepared.description["class_histogram"]
    assert {finding["kind"] for finding in report["findings"]} <= SMALL
    prepared.refuse_unchecked(splits_of(prepared)[0])


def test_one_training_step_becomes_a_scored_row(prepared, tmp_path):
    """The four commands of a row: prepare (above), train, predict, evaluate."""
    train, evaluated = splits_of(prepared)
    for task in networks_for(prepared.tasks):
        recipe = {
            "model": MODELS[task], "dataset": prepared.name, "task": task, "iterations": 1,
            "batch_size": 2, "base_lr": 0.001, "gpus": 0, "train_split": train,
        }  # fmt: skip
        experiment = tmp_path / f"{MODELS[task]}.yaml"
        experiment.write_text(json.dumps(recipe))
        run, data = tmp_path / task, ["--data", str(prepared.root)]
        command("train", experiment, *data, "--out", run, "--state", tmp_path / "state")
        command("predict", experiment, "--run", run, *data, "--split", evaluated,
                "--out", run / "predictions")  # fmt: skip
        command("evaluate", *data, "--split", evaluated, "--predictions", run / "predictions",
                "--out", run / "evaluation")  # fmt: skip
        records = read_json(run / "evaluation" / "records.json")["records"]
        expected = [t for t in SCORED_WITH[task] if t in prepared.tasks]
        assert sorted(record["task"] for record in records) == sorted(expected)
        for record in records:
            assert record["protocol"] == prepared.protocol(record["task"])
            assert record["num_images"] == prepared.description["splits"][evaluated]
            assert record["digests"]["data"] == prepared.digest
            assert any(value is not None for value in record["scores"].values())


def splits_of(prepared):
    """Return the split to train on and the one to score."""
    splits = list(prepared.description["splits"])
    train = "train" if "train" in splits else splits[0]
    rest = [split for split in splits if split != train]
    return train, "val" if "val" in rest else rest[-1]


def networks_for(tasks):
    """Return the kinds of networks that together give predictions for all tasks."""
    return ["panoptic"] if "panoptic" in tasks else list(tasks)


def command(name, *arguments):
    """Run a command of the command line in this process: torch is imported once."""
    from segbench.cli import cli

    return cli.main([name, *map(str, arguments)], standalone_mode=False)


OWN = '''
"""Halves: a dataset of one file that also builds its own miniature."""

from functools import partial

import numpy as np
from PIL import Image

from segbench.datasets.source import (
    Category, DatasetInfo, RawImage, SourceImage, files_by_stem, read_pair,
)

INFO = DatasetInfo(
    name="halves", display_name="Halves", description="Left and right.",
    categories=(Category(1, "left", False, (1, 2, 3)), Category(2, "right", False, (4, 5, 6))),
    tasks=("semantic",), splits={"train": None, "val": None},
    protocols={"semantic": "pennfudan-2"}, licence="CC0", citation="none",
    homepage="https://example.org", layout="It must hold train/ and val/ with masks/ in each.",
)


def sources(raw, options):
    return {split: [
        SourceImage(stem, partial(load, image, raw / split / "masks" / f"{stem}.png"), (image,))
        for stem, image in files_by_stem(raw / split).items()
    ] for split in INFO.splits}


def load(image, mask):
    size, labels = read_pair(image, mask)
    return RawImage(image, size, labels)


def miniature(folder):
    rng = np.random.default_rng(0)
    for split in INFO.splits:
        target = folder / "raw" / split / "masks"
        target.mkdir(parents=True)
        for number in range(2):
            labels = (np.arange(32) // 16 * np.ones((32, 1))).astype(np.uint8)
            image = 90 * labels[..., None] + rng.integers(0, 9, (32, 32, 3))
            Image.fromarray(image.astype(np.uint8)).save(target.parent / f"{split}{number}.png")
            Image.fromarray(labels).save(target / f"{split}{number}.png")
'''


def test_a_dataset_of_ones_own_is_one_file_and_goes_through_these_tests(tmp_path):
    """The tests above, run on a folder of SEGBENCH_DATASETS_PATH: nothing else is added."""
    (tmp_path / "halves.py").write_text(OWN)
    (tmp_path / "stripes.yaml").write_text("folder: anywhere\nclasses: [left, right]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider",
         "-k", "halves or stripes"],
        env={**os.environ, "SEGBENCH_DATASETS_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
