"""Pascal Context: 459 labels to 59 or 60 classes by name, wrong inputs."""

import pickle
import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from segbench.core.errors import DataError
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets._pascal_context import CLASSES, CONTEXT, KIT
from segbench.datasets.pascal_context_59 import sources
from segbench.evaluation.protocol import get_protocol
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import build_raw
from tests.datasets.miniatures._pascal_context import NUMBERS, OTHER, STEMS

FORMS = {59: "pascal_context_59", 60: "pascal_context_60"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_raw(FORMS[59], tmp_path_factory.mktemp("context"))


@pytest.fixture
def raw(built, tmp_path):
    shutil.copytree(built, tmp_path / "raw")
    return tmp_path / "raw"


def truth(raw, stem):
    return loadmat(raw / CONTEXT / "trainval" / f"{stem}.mat")["LabelMap"]


@pytest.mark.parametrize("count", FORMS)
def test_every_class_is_found_by_its_name_pixel_by_pixel(built, tmp_path, count):
    dataset = prepare_dataset(FORMS[count], tmp_path / "out", raw=built)
    shift, background = (0, 255) if count == 59 else (1, 0)
    seen = set()
    for split, stems in STEMS.items():
        records = list(dataset.images(split))
        assert tuple(record.stem for record in records) == stems
        for record in records:
            labels, found = truth(built, record.stem), read_label_map(record.semantic)
            expected = np.full(labels.shape, background)
            for train_id, name in enumerate(CLASSES):
                expected[labels == NUMBERS[name]] = train_id + shift
            assert np.array_equal(found, expected)
            assert (labels == 0).any() and all((labels == other).any() for other in OTHER)
            seen |= set(np.unique(found))
    assert seen == set(range(shift, 59 + shift)) | {background}


@pytest.mark.parametrize("count", FORMS)
def test_the_entry_names_its_protocol_and_counts(count):
    info = dataset_info(FORMS[count])
    assert len(info.categories) == count
    assert get_protocol(info.protocols["semantic"], task="semantic").num_classes == count
    assert info.table.names[-59:] == CLASSES == tuple(sorted(CLASSES))
    assert ("background" in info.table.names) == (count == 60)
    assert dict(info.splits) == {"train": 4_998, "val": 5_105}
    assert sum(info.splits.values()) == 10_103


def test_both_forms_ask_for_the_same_archives():
    assert dataset_info(FORMS[59]).archives == dataset_info(FORMS[60]).archives


def test_another_numbering_in_labels_txt_is_followed(raw, tmp_path):
    """The names decide: with the numbers of two names exchanged, so are their classes."""
    path = raw / CONTEXT / "labels.txt"
    text = path.read_text()
    exchanged = text.replace("\n2: aeroplane", "\n2: bag", 1).replace("\n9: bag", "\n9: aeroplane")
    path.write_text(exchanged)
    dataset = prepare_dataset(FORMS[59], tmp_path / "out", raw=raw)
    record = dataset.images("train")[0]
    labels, found = truth(raw, record.stem), read_label_map(record.semantic)
    assert np.unique(found[labels == 2]).tolist() == [CLASSES.index("bag")]
    assert np.unique(found[labels == 9]).tolist() == [CLASSES.index("aeroplane")]


def test_sources_can_be_sent_to_another_process(raw):
    for items in sources(raw, {}).values():
        for item in pickle.loads(pickle.dumps(list(items))):
            assert item.load().semantic.dtype == np.uint8


def test_everything_that_is_wrong_is_listed_at_once(raw, tmp_path):
    labels, photographs = raw / CONTEXT / "trainval", raw / KIT / "JPEGImages"
    train, val = STEMS["train"], STEMS["val"]
    (labels / f"{train[0]}.mat").unlink()
    savemat(labels / f"{train[1]}.mat", {"LabelMap": np.full((52, 44), 460, np.uint16)})
    savemat(labels / f"{train[2]}.mat", {"Other": 1})
    (photographs / f"{train[3]}.jpg").unlink()
    savemat(labels / f"{val[0]}.mat", {"LabelMap": np.zeros((5, 9), np.uint16)})
    data = (labels / f"{val[1]}.mat").read_bytes()
    (labels / f"{val[1]}.mat").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError) as caught:
        prepare_dataset(FORMS[60], tmp_path / "out", raw=raw)
    text = str(caught.value)
    assert "6 of 6 images cannot be used" in text
    for part in (
        f"train/{train[0]}: {labels / train[0]}.mat does not exist",
        f"{train[1]}.mat has the labels [460]; expected 0 to 459",
        f"{train[2]}.mat: expected the variable LabelMap, found Other",
        f"train/{train[3]}: {photographs / train[3]}.jpg does not exist",
        f"{val[0]}.mat is 9x5, the image {val[0]}.jpg is 60x40",
        f"{labels / val[1]}.mat cannot be read as a MATLAB file",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("397: table", "397: diningtable", "does not name the classes table"),
        ("1: other", "one: other", "expected lines as '1: accordion', found 'one: other thing 1'"),
        ("459: other", "460: other", "found '460: other thing 459'"),
    ],
)
def test_a_wrong_list_of_labels_is_named(raw, tmp_path, old, new, finding):
    path = raw / CONTEXT / "labels.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        prepare_dataset(FORMS[59], tmp_path / "out", raw=raw)
    assert str(path) in str(caught.value) and finding in str(caught.value)


@pytest.mark.parametrize("absent", ["VOCdevkit", "pascal-context"])
def test_a_folder_without_an_archive_says_what_belongs_there(raw, tmp_path, absent):
    shutil.rmtree(raw / absent)
    with pytest.raises(DataError) as caught:
        prepare_dataset(FORMS[59], tmp_path / "out", raw=raw)
    assert dataset_info(FORMS[59]).layout in str(caught.value)
    assert f"it holds {({'VOCdevkit', 'pascal-context'} - {absent}).pop()}" in str(caught.value)
