"""ADE20K: the zero label is reduced once, objects lie over stuff."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.classes.ade20k import CATEGORIES, THING_LABELS
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from tests.datasets.miniatures import ade20k, ade20k_panoptic

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[3] / "shared")) / "data"


@pytest.fixture
def raw(tmp_path):
    ade20k_panoptic.build(tmp_path / "archives")
    for archive in dataset_info("ade20k_panoptic").archives:
        target = tmp_path / "raw" / archive.unpack_to
        shutil.copytree(tmp_path / "archives" / archive.name, target, dirs_exist_ok=True)
    return tmp_path / "raw"


def test_100_things_and_50_stuff_classes():
    assert len(CATEGORIES) == 150 and len(THING_LABELS) == 100
    assert [c.id for c in CATEGORIES] == list(range(1, 151))
    named = {c.name: c.id for c in CATEGORIES}
    assert (named["wall"], named["person"], named["flag"]) == (1, 13, 150)


def test_zero_is_ignored_and_the_classes_move_down_by_one(raw, tmp_path):
    dataset = prepare_dataset("ade20k", tmp_path / "out", raw=raw)
    for record in dataset.images("train"):
        labels = read_label_map(raw / ade20k.TOP / "annotations/training" / f"{record.stem}.png")
        semantic = read_label_map(record.semantic)
        assert np.array_equal(semantic == 255, labels == 0)
        assert np.array_equal(semantic[labels > 0], labels[labels > 0] - 1)


def test_objects_lie_over_stuff_and_things_without_an_object_are_void(raw, tmp_path):
    dataset = prepare_dataset("ade20k_panoptic", tmp_path / "out", raw=raw)
    annotations = read_json(dataset.panoptic_file("val"))["annotations"]
    made = [scene for folder, _, scene in ade20k.scenes() if folder == "validation"]
    for record, annotation, scene in zip(dataset.images("val"), annotations, made, strict=True):
        ids = read_panoptic_ids(record.panoptic)
        categories = [segment["category_id"] for segment in annotation["segments_info"]]
        assert sorted(categories) == sorted([*ade20k.THINGS, 1, 3])
        expected = np.where(scene.instances > 0, scene.labels, 0)
        stuff = np.isin(scene.labels, [c.id for c in CATEGORIES if not c.isthing])
        expected = np.where((scene.instances == 0) & stuff, scene.labels, expected)
        lookup = {0: 0, **{s["id"]: s["category_id"] for s in annotation["segments_info"]}}
        assert np.array_equal(np.vectorize(lookup.get)(ids), expected)


def test_labels_that_were_reduced_already_are_named(raw, tmp_path):
    path = raw / ade20k.TOP / "annotations/validation/ADE_val_00000001.png"
    Image.fromarray(np.full((40, 64), 255, np.uint8)).save(path)
    with pytest.raises(DataError, match="was the zero label reduced already"):
        prepare_dataset("ade20k", tmp_path / "out", raw=raw)


def test_an_object_of_two_classes_is_named(raw, tmp_path):
    path = raw / ade20k.TOP / "annotations_instance/validation/ADE_val_00000001.png"
    colours = np.array(Image.open(path).convert("RGB"))
    rows, columns = np.nonzero(colours[..., 1] == 1)
    colours[rows[0], columns[0], 0] = 99
    Image.fromarray(colours).save(path)
    with pytest.raises(DataError, match="an object has the classes"):
        prepare_dataset("ade20k_panoptic", tmp_path / "out", raw=raw)


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "ade20k_sample").is_dir(), reason="no shared data")
def test_the_official_sample_is_prepared_without_findings(tmp_path):
    for kind in ("images", "annotations"):
        shutil.copytree(SHARED / "ade20k_sample" / kind, tmp_path / "raw" / kind / "validation")
    dataset = prepare_dataset("ade20k", tmp_path / "out", raw=tmp_path / "raw")
    assert len(dataset.images("val")) == 3
    histogram = dataset.description["class_histogram"]["val"]["pixels"]
    assert sum(count > 0 for count in histogram) == 15, "the sample shows 15 of 150 classes"
