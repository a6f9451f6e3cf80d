"""Cityscapes: label ids to train ids, groups as crowds, equal to the official conversion."""

import shutil

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, prepare_dataset
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from segbench.panopticapi.cityscapes_gt_converter.cityscapes_panoptic_converter import (
    panoptic_converter,
)
from tests.datasets.miniatures import cityscapes


@pytest.fixture
def raw(tmp_path):
    cityscapes.build(tmp_path / "archives")
    for archive in dataset_info("cityscapes").archives:
        shutil.copytree(tmp_path / "archives" / archive.name, tmp_path / "raw", dirs_exist_ok=True)
    return tmp_path / "raw"


def test_evaluated_labels_become_train_ids_and_all_others_are_ignored(raw, tmp_path):
    dataset = prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
    expected = {7: 0, 9: 255, 23: 10, 24: 11, 26: 13, 33: 18, 0: 255}
    for record in dataset.images("train"):
        city = record.stem.split("_")[0]
        labels = read_label_map(raw / f"gtFine/train/{city}/{record.stem}_gtFine_labelIds.png")
        semantic = read_label_map(record.semantic)
        assert {(int(a), int(b)) for a, b in zip(labels.flat, semantic.flat, strict=True)} == set(
            expected.items()
        )


def test_panoptic_truth_equals_the_official_conversion(raw, tmp_path, capsys):
    dataset = prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
    panoptic_converter(raw / "gtFine/val", tmp_path / "theirs", tmp_path / "theirs.json")
    theirs = {a["image_id"]: a for a in read_json(tmp_path / "theirs.json")["annotations"]}
    ours = read_json(dataset.panoptic_file("val"))["annotations"]
    assert len(theirs) == len(ours) == 2
    for record, annotation in zip(dataset.images("val"), ours, strict=True):
        official = theirs[record.stem]
        assert annotation["segments_info"] == official["segments_info"]
        png = tmp_path / "theirs" / official["file_name"]
        assert np.array_equal(read_panoptic_ids(record.panoptic), read_panoptic_ids(png))


def test_groups_are_crowds_among_the_instances(raw, tmp_path):
    dataset = prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
    objects = read_json(dataset.instances_file("val"))["annotations"]
    found = sorted((o["category_id"], o["iscrowd"]) for o in objects)
    assert found == sorted(2 * [(26, 0), (26, 0), (24, 0), (33, 1)])


def test_the_test_split_is_not_read_because_its_truth_is_not_public(raw, tmp_path):
    dataset = prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
    assert set(dataset.description["splits"]) == {"train", "val"}


def truth_file(raw, kind, index=0):
    return sorted((raw / "gtFine/val/frankfurt").glob(f"*_gtFine_{kind}.png"))[index]


def test_train_ids_and_other_faults_are_named(raw, tmp_path):
    from PIL import Image

    labels = truth_file(raw, "labelIds")
    Image.fromarray(np.full((48, 96), 200, np.uint8)).save(labels)
    truth_file(raw, "instanceIds", 1).unlink()
    with pytest.raises(DataError) as caught:
        prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
    assert "2 of 6 images" in str(caught.value)
    assert "000101_000019_gtFine_instanceIds.png does not exist" in str(caught.value)
    assert "labels [200]" in str(caught.value)
    assert "label ids 0 to 33" in str(caught.value)
    with pytest.raises(DataError, match="no Cityscapes split"):
        (tmp_path / "empty").mkdir()
        prepare_dataset("cityscapes", tmp_path / "o2", raw=tmp_path / "empty")


def test_instance_ids_of_another_size_or_label_are_named(raw, tmp_path):
    from PIL import Image

    Image.fromarray(np.full((48, 96), 40_000, np.uint16)).save(truth_file(raw, "instanceIds"))
    with pytest.raises(DataError, match="instance id 40000: no label 40"):
        prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(truth_file(raw, "instanceIds"))
    with pytest.raises(DataError, match="is 4x4, the image 96x48"):
        prepare_dataset("cityscapes", tmp_path / "out", raw=raw)
