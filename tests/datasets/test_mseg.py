"""MSeg: five taxonomies in one, exchanged at prepare time."""

import shutil

import numpy as np
import pytest

from segbench.core.errors import ConfigError, DataError
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.classes.mseg import CATEGORIES, PARTS, train_ids
from segbench.datasets.mseg import exchange_table
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import mseg as miniature

LEFT_OUT = {
    "ade20k": {
        *("plant", "crt screen", "step", "canopy", "bar"),
        *("computer", "monitor", "screen", "signboard"),
    },
    "mapillary_v12": {"Ego Vehicle", "Car Mount", "Manhole", "Catch Basin", "Other Vehicle"},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mseg")
    miniature.build(folder)
    return folder / "raw"


@pytest.mark.parametrize("part", PARTS)
def test_every_class_of_a_part_has_one_place_or_is_left_out(part):
    names = dataset_info(part).table.names
    places = train_ids(part)
    assert set(places) == set(names) - LEFT_OUT.get(part, set())
    lut = exchange_table(part, dataset_info(part).table)
    left_out = {name for i, name in enumerate(names) if lut[i] == 255}
    assert left_out == set(names) - set(places)
    assert lut[255] == 255


def test_194_classes_and_known_mergers():
    names = [category.name for category in CATEGORIES]
    assert len(names) == len(set(names)) == 194
    for part, name, merged in (
        ("coco2017", "house", "building"),
        ("ade20k", "hovel", "building"),
        ("mapillary_v12", "Bike Lane", "road"),
        ("cityscapes", "road", "road"),
        ("sunrgbd", "chair", "chair_other"),
    ):
        assert names[train_ids(part)[name]] == merged


def test_labels_of_every_part_are_exchanged(built, tmp_path):
    dataset = prepare_dataset("mseg", tmp_path / "out", raw=built)
    stems = [record.stem for record in dataset.images("train")]
    assert {stem.split("-")[0] for stem in stems} == set(PARTS)
    prepared = prepare_dataset("cityscapes", tmp_path / "alone", raw=built / "cityscapes")
    alone = {record.stem: record for record in prepared.images("val")}
    lut = exchange_table("cityscapes", prepared.table)
    checked = 0
    for record in dataset.images("val"):
        part, _, stem = record.stem.partition("-")
        if part == "cityscapes":
            theirs = read_label_map(alone[stem].semantic)
            assert np.array_equal(read_label_map(record.semantic), lut[theirs])
            checked += 1
    assert checked == 2


def test_parts_can_be_chosen_and_missing_ones_are_named(built, tmp_path):
    shutil.copytree(built / "ade20k", tmp_path / "raw" / "ade20k")
    with pytest.raises(DataError, match="no folder 'coco2017'"):
        prepare_dataset("mseg", tmp_path / "out", raw=tmp_path / "raw")
    options = {"parts": "ade20k"}
    dataset = prepare_dataset("mseg", tmp_path / "out", raw=tmp_path / "raw", options=options)
    assert {r.stem.split("-")[0] for r in dataset.images("val")} == {"ade20k"}
    with pytest.raises(ConfigError, match=r"unknown part 'ade20'\..*ade20k"):
        prepare_dataset("mseg", tmp_path / "o", raw=built, options={"parts": "ade20"})
