"""SUN RGB-D: labels of the toolbox pixel by pixel, its splits and numbers, wrong inputs."""

import pickle
import shutil

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from segbench.core.errors import DataError
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.sunrgbd import IMAGE_FILE, LABEL_FILE, SPLIT_FILE, sources
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import build_raw
from tests.datasets.miniatures.sunrgbd import IMAGES, write_labels

STEMS = [path.split("/image/")[0].replace("/", "_") for path in IMAGES]
PATHS = list(IMAGES)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_raw("sunrgbd", tmp_path_factory.mktemp("sun"))


@pytest.fixture
def raw(built, tmp_path):
    shutil.copytree(built, tmp_path / "raw")
    return tmp_path / "raw"


def truth(raw, index):
    with h5py.File(raw / LABEL_FILE) as stream:
        reference = stream["SUNRGBD2Dseg"]["seglabel"][index][0]
        return np.array(stream[reference]).transpose(1, 0)


def all_truths(raw):
    return [truth(raw, index) for index in range(len(IMAGES))]


def error_of(raw, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare_dataset("sunrgbd", tmp_path / "out", raw=raw)
    assert not (tmp_path / "out" / "dataset.json").exists()
    return str(caught.value)


def test_unlabelled_is_ignored_and_class_1_becomes_train_id_0(built, tmp_path):
    dataset = prepare_dataset("sunrgbd", tmp_path / "out", raw=built)
    seen = set()
    for split in ("train", "test"):
        for record in dataset.images(split):
            index = STEMS.index(record.stem)
            assert record.image_id == index + 1 and list(IMAGES.values())[index] == split
            labels, found = truth(built, index), read_label_map(record.semantic)
            assert np.array_equal(found == 255, labels == 0)
            assert np.array_equal(found[labels > 0], labels[labels > 0] - 1)
            photograph = built / "SUNRGBD" / PATHS[index]
            assert record.image.read_bytes() == photograph.read_bytes()
            seen |= set(np.unique(found))
    assert {0, 1, 4, 36, 255} <= seen


def test_splits_are_those_of_the_toolbox_in_its_order(built):
    found = {split: [item.stem for item in items] for split, items in sources(built, {}).items()}
    expected = {
        split: [s for s, of in zip(STEMS, IMAGES.values(), strict=True) if of == split]
        for split in ("train", "test")
    }
    assert found == expected
    assert dict(dataset_info("sunrgbd").splits) == {"train": 5_285, "test": 5_050}


def test_it_has_the_37_classes_of_the_toolbox():
    names = dataset_info("sunrgbd").table.names
    assert len(names) == 37
    assert (names[0], names[19], names[36]) == ("wall", "floor_mat", "bag")


def test_a_change_of_the_labels_prepares_again(raw, tmp_path):
    before = prepare_dataset("sunrgbd", tmp_path / "out", raw=raw)
    labels = all_truths(raw)
    labels[3][labels[3] == 2] = 9
    write_labels(raw / LABEL_FILE, labels)
    after = prepare_dataset("sunrgbd", tmp_path / "out", raw=raw)
    assert before.digest != after.digest


def test_a_scene_that_is_absent_is_left_out(raw, tmp_path, capsys):
    shutil.rmtree(raw / "SUNRGBD" / "realsense")
    dataset = prepare_dataset("sunrgbd", tmp_path / "out", raw=raw)
    assert dataset.description["splits"] == {"train": 3, "test": 2}
    assert "sunrgbd train: 3 images, the official split has 5285" in capsys.readouterr().err
    assert [record.image_id for record in dataset.images("train")] == [3, 5, 6]


def test_sources_can_be_sent_to_another_process(built):
    for items in sources(built, {}).values():
        for item in pickle.loads(pickle.dumps(list(items))):
            assert item.load().semantic.dtype == np.uint8


def test_everything_that_is_wrong_is_listed_at_once(raw, tmp_path):
    labels = all_truths(raw)
    labels[0][0, 0] = 38
    labels[1] = labels[1].T
    labels[4] = np.zeros(3)
    write_labels(raw / LABEL_FILE, labels)
    (raw / "SUNRGBD" / PATHS[2]).unlink()
    photograph = raw / "SUNRGBD" / PATHS[3]
    photograph.write_bytes(photograph.read_bytes()[:300])
    text = error_of(raw, tmp_path)
    assert "5 of 6 images cannot be used" in text
    for part in (
        f"test/{STEMS[0]}: {raw / LABEL_FILE} has the labels [38]; expected 0 to 37",
        f"test/{STEMS[1]}: SUNRGBD2Dseg.mat is 52x44, the image 0000041.jpg is 44x52",
        f"train/{STEMS[2]}: {raw / 'SUNRGBD' / PATHS[2]} does not exist",
        f"train/{STEMS[3]}: {photograph} cannot be read as an image",
        f"train/{STEMS[4]}: {raw / LABEL_FILE}: expected a two-dimensional label map",
    ):
        assert part in text


@pytest.mark.parametrize("file", [SPLIT_FILE, IMAGE_FILE, LABEL_FILE])
@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "text"])
def test_a_broken_file_of_the_toolbox_is_named(raw, tmp_path, file, damage):
    path = raw / file
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2]}.get(damage, b"<html>" * 200))
    if damage == "absent":
        path.unlink()
    expected = "does not exist" if damage == "absent" else "cannot be read as a MATLAB file"
    text = error_of(raw, tmp_path)
    assert f"{path} {expected}" in text
    assert "Traceback" not in text


def test_another_structure_is_named(raw, tmp_path):
    labels = all_truths(raw)
    write_labels(raw / LABEL_FILE, labels, field="other")
    assert f"{raw / LABEL_FILE} cannot be read as a MATLAB file: KeyError" in error_of(
        raw, tmp_path
    )
    write_labels(raw / LABEL_FILE, labels[:5])
    assert "labels 5 images, SUNRGBDMeta.mat names 6" in error_of(raw, tmp_path)
    write_labels(raw / LABEL_FILE, labels)
    savemat(raw / SPLIT_FILE, {"alltrain": np.zeros((1, 3)), "alltest": np.zeros((1, 3))})
    assert "expected alltrain to hold strings, found float64" in error_of(raw, tmp_path)
    savemat(raw / SPLIT_FILE, {"alltrain": np.array([["elsewhere"]], dtype=object)})
    assert "expected paths with /SUNRGBD/, found 'elsewhere'" in error_of(raw, tmp_path)
    savemat(raw / IMAGE_FILE, {"SUNRGBDMeta": {"rgbname": "a.jpg"}})
    savemat(raw / SPLIT_FILE, {"alltrain": np.array([["/a/SUNRGBD/b"]], dtype=object)})
    assert "expected the variable alltest, found alltrain" in error_of(raw, tmp_path)


def test_a_path_never_leaves_the_folder(raw, tmp_path):
    scenes = np.array([["/n/SUNRGBD/../../secret"]], dtype=object)
    savemat(raw / SPLIT_FILE, {"alltrain": scenes, "alltest": scenes})
    assert "expected paths with /SUNRGBD/, found '/n/SUNRGBD/../../secret'" in error_of(
        raw, tmp_path
    )


@pytest.mark.parametrize("absent", ["SUNRGBD", "SUNRGBDtoolbox"])
def test_a_folder_without_an_archive_says_what_belongs_there(raw, tmp_path, absent):
    shutil.rmtree(raw / absent)
    text = error_of(raw, tmp_path)
    assert dataset_info("sunrgbd").layout in text and "is not a SUN RGB-D folder" in text


def test_a_folder_without_any_scene_is_refused(raw, tmp_path):
    shutil.rmtree(raw / "SUNRGBD")
    (raw / "SUNRGBD").mkdir()
    assert "has no scene of the toolbox" in error_of(raw, tmp_path)
