"""COCO-Stuff: 171 classes with gaps in their numbers."""

import shutil

import numpy as np
import pytest

from segbench.core.errors import DataError
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.classes.coco import CATEGORIES as PANOPTIC
from segbench.datasets.classes.coco_stuff import CATEGORIES
from segbench.evaluation.protocol import get_protocol
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import coco_stuff
from tests.datasets.miniatures.scenes import save


@pytest.fixture
def raw(tmp_path):
    coco_stuff.build(tmp_path / "archives")
    for archive in dataset_info("coco_stuff").archives:
        target = tmp_path / "raw" / archive.unpack_to
        shutil.copytree(tmp_path / "archives" / archive.name, target, dirs_exist_ok=True)
    return tmp_path / "raw"


def test_numbers_agree_with_the_protocol_and_with_cocos_panoptic_classes():
    ids = [category.id for category in CATEGORIES]
    assert len(ids) == 171 and ids[-1] == 182
    assert get_protocol("coco-stuff").labels.ids == tuple(i - 1 for i in ids)
    names = {category.id: category.name for category in CATEGORIES}
    unmerged = [c for c in PANOPTIC if c.id <= 182 and not c.name.endswith("merged")]
    assert len(unmerged) == 80 + 36
    assert all(names[category.id] == category.name for category in unmerged)


def test_labels_become_train_ids(raw, tmp_path):
    dataset = prepare_dataset("coco_stuff", tmp_path / "out", raw=raw)
    expected = {0: 0, 89: 79, 91: 80, 181: 170, 255: 255}
    made = {stem: scene for _, stem, scene in coco_stuff.scenes()}
    for record in (*dataset.images("train"), *dataset.images("val")):
        semantic = read_label_map(record.semantic)
        assert np.array_equal(semantic, np.vectorize(expected.get)(made[record.stem].labels))
        assert record.image_id == int(record.stem)


def test_unused_numbers_are_named(raw, tmp_path):
    save(raw / "stuffthingmaps/val2017/000000000009.png", np.full((40, 56), 11))
    with pytest.raises(DataError, match=r"labels \[11\]; expected category numbers less one"):
        prepare_dataset("coco_stuff", tmp_path / "out", raw=raw)
