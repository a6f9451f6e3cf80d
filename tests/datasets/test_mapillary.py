"""Mapillary Vistas: label numbers, objects of the 16-bit files, releases told apart."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.classes.mapillary import V12, V20
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import mapillary_v12, mapillary_v20


def raw_folder(module, name, tmp_path):
    module.build(tmp_path / "archives")
    archive = dataset_info(name).archives[0].name
    shutil.copytree(tmp_path / "archives" / archive, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def raw(tmp_path):
    return raw_folder(mapillary_v12, "mapillary_v12", tmp_path)


def test_65_scored_classes_of_which_37_have_instances():
    assert len(V12) == 65 and sum(c.isthing for c in V12) == 37
    assert len(V20) == 123 and not any(c.isthing for c in V20)


def test_labels_stay_train_ids_and_objects_come_from_the_16_bit_file(raw, tmp_path):
    dataset = prepare_dataset("mapillary_v12", tmp_path / "out", raw=raw)
    made = [scene for folder, _, scene in mapillary_v12.scenes() if folder == "validation"]
    objects = read_json(dataset.instances_file("val"))["annotations"]
    for record, scene in zip(dataset.images("val"), made, strict=True):
        expected = np.where(scene.labels == 65, 255, scene.labels)
        assert np.array_equal(read_label_map(record.semantic), expected)
        found = [o for o in objects if o["image_id"] == record.image_id]
        areas = [int((scene.instances == n).sum()) for n in (1, 2, 3)]
        assert sorted(o["area"] for o in found) == sorted(areas)
        assert sorted(o["category_id"] for o in found) == [20, 56, 56]


def test_version_2_reads_its_own_labels(tmp_path):
    raw = raw_folder(mapillary_v20, "mapillary_v20", tmp_path)
    dataset = prepare_dataset("mapillary_v20", tmp_path / "out", raw=raw)
    semantic = read_label_map(dataset.images("train")[0].semantic)
    assert set(np.unique(semantic).tolist()) == {21, 27, 30, 106, 122, 255}


def test_a_folder_of_the_other_release_is_refused(raw, tmp_path):
    with pytest.raises(DataError, match=r"labels are not those of v2\.0"):
        prepare_dataset("mapillary_v20", tmp_path / "out", raw=raw)
    (raw / "config.json").unlink()
    with pytest.raises(DataError, match=r"no config_v1\.2\.json"):
        prepare_dataset("mapillary_v12", tmp_path / "out", raw=raw)


@pytest.mark.parametrize(
    ("kind", "pixels", "message"),
    [
        ("labels", np.full((48, 64), 66, np.uint8), r"labels \[66\]; expected 0 to 65"),
        ("instances", np.full((48, 64), 70 * 256, np.uint16), "of label 70"),
        ("instances", np.zeros((4, 5), np.uint16), "is 5x4, the image 64x48"),
    ],
)
def test_wrong_truth_is_named(raw, tmp_path, kind, pixels, message):
    path = sorted((raw / "validation" / kind).glob("*.png"))[0]
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=message):
        prepare_dataset("mapillary_v12", tmp_path / "out", raw=raw)
