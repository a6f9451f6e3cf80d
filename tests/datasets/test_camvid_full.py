"""CamVid at full size: 32 colours to 11 classes, SegNet's split by the names of the frames."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.camvid_full import _TRAIN_IDS, split_of
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import camvid_full
from tests.datasets.miniatures.scenes import save

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[3] / "shared")) / "data"


@pytest.fixture
def raw(tmp_path):
    camvid_full.build(tmp_path / "archives")
    for archive in dataset_info("camvid_full").archives:
        target = tmp_path / "raw" / archive.unpack_to
        shutil.copytree(tmp_path / "archives" / archive.name, target, dirs_exist_ok=True)
    return tmp_path / "raw"


def test_32_colours_are_joined_to_11_classes_and_void():
    assert len(_TRAIN_IDS) == 32
    assert set(_TRAIN_IDS.values()) == {*range(11), 255}


def test_colours_become_train_ids(raw, tmp_path):
    dataset = prepare_dataset("camvid_full", tmp_path / "out", raw=raw)
    made = dict(camvid_full.scenes())
    for split, stems in camvid_full.FRAMES.items():
        records = dataset.images(split)
        assert [record.stem for record in records] == sorted(stems)
        for record in records:
            expected = np.array(camvid_full.EXPECTED)[made[record.stem].labels]
            assert np.array_equal(read_label_map(record.semantic), expected)


def test_the_published_lists_have_367_101_and_233_frames():
    stems = [f"0001TP_{n:06d}" for n in range(6690, 10381, 30)]
    stems += [f"0006R0_f{n:05d}" for n in range(930, 3931, 30)]
    stems += [f"0016E5_{n:05d}" for n in range(7959, 8160, 2)]
    stems += [f"Seq05VD_f{n:05d}" for n in range(0, 5101, 30)]
    found = [split_of(stem) for stem in stems]
    assert found.count("val") == 101
    assert found.count("test") == 233
    assert found.count("train") == 367 - 204, "204 frames of 0016E5 make up the rest of train"


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "camvid").is_dir(), reason="no shared data")
def test_the_split_is_that_of_the_real_folders():
    for split in ("train", "val", "test"):
        for path in (SHARED / "camvid" / split).iterdir():
            assert split_of(path.stem) == split


def test_mixed_colours_and_foreign_names_are_named(raw, tmp_path):
    save(raw / "LabeledApproved_full" / "0016E5_07959_L.png", np.full((36, 48, 3), 77))
    with pytest.raises(DataError, match="no label: #4d4d4d"):
        prepare_dataset("camvid_full", tmp_path / "out", raw=raw)
    save(raw / "701_StillsRaw_full" / "holiday.png", np.zeros((36, 48, 3)))
    with pytest.raises(DataError, match="'holiday' is not the name"):
        prepare_dataset("camvid_full", tmp_path / "out", raw=raw)
    with pytest.raises(DataError, match="no full-size CamVid"):
        (tmp_path / "empty").mkdir()
        prepare_dataset("camvid_full", tmp_path / "out", raw=tmp_path / "empty")
