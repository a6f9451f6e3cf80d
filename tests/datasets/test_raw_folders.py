"""CamVid and Penn-Fudan from a user's folder, right and wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.pennfudan import split_of
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset
from tests.datasets.miniatures import camvid as camvid_miniature
from tests.datasets.miniatures import pennfudan as pennfudan_miniature
from tests.datasets.miniatures.scenes import save

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[3] / "shared")) / "data"


@pytest.fixture
def camvid(tmp_path):
    camvid_miniature.build_raw(tmp_path / "raw")
    return tmp_path / "raw"


def test_camvid_void_becomes_ignored_and_classes_keep_their_number(camvid, tmp_path):
    dataset = prepare_dataset("camvid", tmp_path / "out", raw=camvid)
    for record in dataset.images("train"):
        raw = np.asarray(Image.open(camvid / "trainannot" / f"{record.stem}.png"))
        prepared = read_label_map(record.semantic)
        assert np.array_equal(prepared == 255, raw == 11)
        assert np.array_equal(prepared[raw != 11], raw[raw != 11])
        assert record.image.read_bytes() == (camvid / "train" / record.image.name).read_bytes()


def test_camvid_has_the_published_classes_and_split():
    info = dataset_info("camvid")
    assert info.table.names == (
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree",
        "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
    )  # fmt: skip
    assert dict(info.splits) == {"train": 367, "val": 101, "test": 233}


def test_a_partial_folder_is_taken_with_its_real_count_and_a_warning(camvid, tmp_path, capsys):
    dataset = prepare_dataset("camvid", tmp_path / "out", raw=camvid)
    assert dataset.description["splits"] == {"train": 3, "val": 2, "test": 2}
    assert dataset.description["official_splits"] == {"train": 367, "val": 101, "test": 233}
    assert "warning: camvid train: 3 images, the official split has 367" in capsys.readouterr().err


def test_everything_that_is_wrong_is_listed_at_once(camvid, tmp_path):
    train, labels = camvid / "train", camvid / "trainannot"
    stems = [path.stem for path in sorted(train.iterdir())]
    (labels / f"{stems[0]}.png").unlink()
    broken = (train / f"{stems[1]}.png").read_bytes()
    (train / f"{stems[1]}.png").write_bytes(broken[: len(broken) // 2])
    save(labels / f"{stems[2]}.png", np.full((30, 40), 12))
    save(camvid / "valannot" / "0001TP_val_000.png", np.zeros((10, 10)))
    save(camvid / "testannot" / "alone.png", np.zeros((30, 40)))
    save(camvid / "testannot" / "0001TP_test_001.png", np.zeros((30, 40, 3)))
    with pytest.raises(DataError) as caught:
        prepare_dataset("camvid", tmp_path / "out", raw=camvid)
    text = str(caught.value)
    assert "camvid: 6 of 8 images cannot be used" in text
    for part in (
        f"train/{stems[0]}: {labels / stems[0]}.png does not exist",
        f"train/{stems[1]}: {train / stems[1]}.png cannot be read as an image",
        f"{stems[2]}.png has the labels [12]; expected 0 to 11",
        "0001TP_val_000.png is 10x10, the image 0001TP_val_000.png is 40x30",
        f"test/alone: {camvid / 'test' / 'alone.png'} does not exist",
        "expected a one-channel PNG of class ids, found mode RGB",
    ):
        assert part in text
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_long_list_is_cut_but_counted(tmp_path):
    for number in range(30):
        save(tmp_path / "raw" / "train" / f"{number:02d}.png", np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match=r"30 of 30 images(.|\n)*train/19:(.|\n)*and 10 more"):
        prepare_dataset("camvid", tmp_path / "out", raw=tmp_path / "raw")


def test_two_images_of_one_name_are_refused(camvid, tmp_path):
    save(camvid / "train" / "0001TP_train_000.jpg", np.zeros((30, 40, 3)))
    with pytest.raises(DataError, match="two files for '0001TP_train_000'"):
        prepare_dataset("camvid", tmp_path / "out", raw=camvid)


@pytest.mark.parametrize("name", ["camvid", "pennfudan"])
@pytest.mark.parametrize("given", ["nothing", "missing", "other content"])
def test_a_missing_folder_says_which_files_belong_where(tmp_path, name, given):
    (tmp_path / "other" / "photos").mkdir(parents=True)
    raw = {
        "nothing": None,
        "missing": tmp_path / "nowhere",
        "other content": tmp_path / "other",
    }[given]
    with pytest.raises(DataError) as caught:
        prepare_dataset(name, tmp_path / "out", raw=raw)
    assert dataset_info(name).layout in str(caught.value)
    assert ("photos" in str(caught.value)) == (given == "other content")


def test_both_namings_of_pennfudan_give_the_same_data(tmp_path):
    pennfudan_miniature.build_raw(tmp_path / "published")
    pennfudan_miniature.build_raw(tmp_path / "plain", "images", "masks")
    published = prepare_dataset("pennfudan", tmp_path / "a", raw=tmp_path / "published")
    plain = prepare_dataset("pennfudan", tmp_path / "b", raw=tmp_path / "plain")
    assert published.digest == plain.digest


def test_pennfudan_instances_are_the_numbers_of_the_mask(tmp_path):
    pennfudan_miniature.build_raw(tmp_path / "raw")
    dataset = prepare_dataset("pennfudan", tmp_path / "out", raw=tmp_path / "raw")
    people = 0
    for split in ("train", "val"):
        annotations = read_json(dataset.instances_file(split))["annotations"]
        for record in dataset.images(split):
            mask = np.asarray(Image.open(tmp_path / "raw" / "PedMasks" / f"{record.stem}_mask.png"))
            areas = sorted(a["area"] for a in annotations if a["image_id"] == record.image_id)
            assert areas == sorted(np.unique(mask[mask > 0], return_counts=True)[1].tolist())
            people += len(areas)
    assert people > len(pennfudan_miniature.STEMS)


def test_the_pennfudan_split_looks_at_one_name_at_a_time():
    names = [f"FudanPed{n:05d}" for n in range(1, 75)] + [f"PennPed{n:05d}" for n in range(1, 97)]
    splits = [split_of(name) for name in names]
    assert (splits.count("train"), splits.count("val")) == (124, 46)
    assert [split_of(name) for name in names[10:20]] == splits[10:20]


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "camvid").is_dir(), reason="the real CamVid images are not here")
def test_the_real_camvid_subset(tmp_path):
    dataset = prepare_dataset("camvid", tmp_path / "out", raw=SHARED / "camvid")
    assert dataset.description["splits"] == {"train": 120, "val": 40, "test": 60}
    histogram = dataset.description["class_histogram"]["test"]
    assert sum(histogram["pixels"]) + histogram["ignored"] == 60 * 480 * 360
    assert min(histogram["pixels"]) > 0


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "pennfudan").is_dir(), reason="the real images are not here")
def test_the_real_pennfudan(tmp_path):
    prepare_dataset("pennfudan", tmp_path / "out", raw=SHARED / "pennfudan")
    dataset = PreparedDataset.open(tmp_path / "out")
    assert sum(dataset.description["splits"].values()) == 170
    people = [len(read_json(dataset.instances_file(s))["annotations"]) for s in ("train", "val")]
    assert sum(people) == 423
