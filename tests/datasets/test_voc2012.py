"""Pascal VOC 2012: borders, trainaug's arithmetic, SBD's labels, wrong inputs."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import loadmat, savemat

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.voc2012 import KIT, SBD, sources, trainaug_stems
from segbench.evaluation.protocol import get_protocol
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset
from tests.datasets.miniatures import build_raw
from tests.datasets.miniatures.scenes import save, save_palette
from tests.datasets.miniatures.voc2012 import SBD_TRAIN, SBD_VAL, TRAIN, VAL

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[3] / "shared")) / "data"
SBD_ONLY = ("2008_000002", "2008_000003")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_raw("voc2012", tmp_path_factory.mktemp("voc"))


@pytest.fixture
def raw(built, tmp_path):
    shutil.copytree(built, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def prepared(built, tmp_path_factory) -> PreparedDataset:
    return prepare_dataset("voc2012", tmp_path_factory.mktemp("out") / "voc", raw=built)


def png(raw, kind, stem):
    return np.asarray(Image.open(raw / KIT / kind / f"{stem}.png"))


def masks_of(prepared, split, stem):
    """Return {bytes of a mask: category id} of one prepared image."""
    document = read_json(prepared.instances_file(split))
    (image,) = [i for i in document["images"] if Path(i["file_name"]).stem == stem]
    found = [a for a in document["annotations"] if a["image_id"] == image["id"]]
    return {
        coco_mask.decode(a["segmentation"]).astype(bool).tobytes(): a["category_id"] for a in found
    }


def test_train_ids_are_the_numbers_of_the_kit():
    info = dataset_info("voc2012")
    assert info.table.names == get_protocol("voc2012", task="semantic").class_names
    assert [info.table.train_id(i) for i in range(1, 21)] == list(range(1, 21))
    assert info.table.stuff_train_ids == (0,)
    colors = [category.color for category in info.categories]
    assert colors[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert colors[20] == (0, 64, 128)


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_and_borders_of_the_kit_are_kept_pixel_by_pixel(prepared, built, split):
    records = list(prepared.images(split))
    assert [r.stem for r in records] == list(TRAIN if split == "train" else VAL)
    for record in records:
        truth = png(built, "SegmentationClass", record.stem)
        assert (truth == 255).any()
        assert np.array_equal(read_label_map(record.semantic), truth)
        photograph = built / KIT / "JPEGImages" / record.image.name
        assert record.image.read_bytes() == photograph.read_bytes()


def test_objects_leave_their_border_out(prepared, built):
    for stem in VAL:
        numbers, classes = (
            png(built, k, stem) for k in ("SegmentationObject", "SegmentationClass")
        )
        expected = {
            (numbers == number).tobytes(): int(np.unique(classes[numbers == number])[0])
            for number in (1, 2, 3)
        }
        assert masks_of(prepared, "val", stem) == expected
        assert {15, 20} < set(expected.values())


def test_trainaug_adds_the_images_of_sbd_with_the_labels_of_sbd(prepared, built):
    records = {record.stem: record for record in prepared.images("trainaug")}
    assert sorted(records) == sorted({*TRAIN, *SBD_ONLY})
    for stem, record in records.items():
        labels = read_label_map(record.semantic)
        if stem in TRAIN:
            assert np.array_equal(labels, png(built, "SegmentationClass", stem))
            continue
        truth = loadmat(built / SBD / "cls" / f"{stem}.mat")["GTcls"][0]["Segmentation"][0]
        assert np.array_equal(labels, truth) and not (labels == 255).any()
        objects = loadmat(built / SBD / "inst" / f"{stem}.mat")["GTinst"]
        numbers, classes = objects["Segmentation"][0][0], objects["Categories"][0][0].ravel()
        assert masks_of(prepared, "trainaug", stem) == {
            (numbers == n).tobytes(): int(label) for n, label in enumerate(classes, start=1)
        }


def test_no_image_of_val_is_in_trainaug(prepared):
    assert "2007_000033" in VAL and "2007_000033" in SBD_VAL
    assert not {r.stem for r in prepared.images("trainaug")} & set(VAL)
    assert prepared.description["splits"] == {"train": 3, "trainaug": 5, "val": 2}
    assert set(SBD_TRAIN) & set(TRAIN), "an image of both keeps the labels of VOC"


def test_the_arithmetic_of_trainaug():
    """The published counts: SBD has 8,498 + 2,857 images; 9,118 are in neither VOC list."""
    train = [f"t{i}" for i in range(1_464)]
    val = [f"v{i}" for i in range(1_449)]
    shared = 8_498 + 2_857 - 9_118
    sbd = {f"s{i}" for i in range(9_118)} | set((train + val)[:shared])
    assert len(sbd) == 11_355
    stems = trainaug_stems(train, val, sbd)
    assert len(stems) == len(set(stems)) == 10_582 == dataset_info("voc2012").splits["trainaug"]
    assert not set(stems) & set(val)


def test_without_sbd_there_is_no_trainaug_and_a_warning(raw, tmp_path, capsys):
    shutil.rmtree(raw / "benchmark_RELEASE")
    dataset = prepare_dataset("voc2012", tmp_path / "out", raw=raw)
    assert dataset.description["splits"] == {"train": 3, "val": 2}
    warnings = capsys.readouterr().err
    assert "voc2012 trainaug: 0 images, the official split has 10582" in warnings


def test_sources_can_be_sent_to_another_process(raw):
    for items in sources(raw, {}).values():
        for item in pickle.loads(pickle.dumps(list(items))):
            assert item.load().semantic.dtype == np.uint8


def test_an_object_of_two_classes_has_that_of_most_of_its_pixels(raw, tmp_path):
    labels = png(raw, "SegmentationClass", VAL[0]).copy()
    first = png(raw, "SegmentationObject", VAL[0]) == 1
    rows, columns = np.nonzero(first)
    labels[rows[0], columns[0]] = 7
    save_palette(raw / KIT / "SegmentationClass" / f"{VAL[0]}.png", labels)
    dataset = prepare_dataset("voc2012", tmp_path / "out", raw=raw)
    assert masks_of(dataset, "val", VAL[0])[first.tobytes()] == 15


def test_everything_that_is_wrong_is_listed_at_once(raw, tmp_path):
    kit, sbd = raw / KIT, raw / SBD
    labels = png(raw, "SegmentationClass", TRAIN[0]).copy()
    labels[0, 0] = 21
    save_palette(kit / "SegmentationClass" / f"{TRAIN[0]}.png", labels)
    (kit / "JPEGImages" / f"{TRAIN[1]}.jpg").unlink()
    save(kit / "SegmentationObject" / f"{TRAIN[2]}.png", np.zeros((5, 9)))
    numbers = png(raw, "SegmentationObject", VAL[0]).copy()
    numbers[0, 0] = 77
    save_palette(kit / "SegmentationObject" / f"{VAL[0]}.png", numbers)
    save(kit / "SegmentationClass" / f"{VAL[1]}.png", np.zeros((52, 44, 3)))
    (sbd / "cls" / f"{SBD_ONLY[0]}.mat").write_bytes(b"not a MATLAB file at all" * 20)
    objects = loadmat(sbd / "inst" / f"{SBD_ONLY[1]}.mat")["GTinst"][0, 0]
    savemat(
        sbd / "inst" / f"{SBD_ONLY[1]}.mat",
        {"GTinst": {"Segmentation": objects["Segmentation"], "Categories": [[15.0]]}},
    )
    with pytest.raises(DataError) as caught:
        prepare_dataset("voc2012", tmp_path / "out", raw=raw)
    text = str(caught.value)
    assert "10 of 10 images cannot be used" in text
    for part in (
        f"train/{TRAIN[0]}: {kit / 'SegmentationClass' / TRAIN[0]}.png has the labels [21]; "
        "expected 0 to 20 and 255",
        f"trainaug/{TRAIN[1]}: {kit / 'JPEGImages' / TRAIN[1]}.jpg does not exist",
        f"{TRAIN[2]}.png is 9x5, the image is",
        f"{VAL[0]}.png: object 77 has no pixel of an object class in {VAL[0]}.png",
        f"{VAL[1]}.png: expected a one-channel PNG of class ids, found mode RGB",
        f"{sbd / 'cls' / SBD_ONLY[0]}.mat cannot be read as a MATLAB file",
        f"{SBD_ONLY[1]}.mat: object 3 has no class; Categories has 1",
    ):
        assert part in text
    assert not (tmp_path / "out" / "dataset.json").exists()


def matlab_finding(raw, tmp_path, kind, value):
    """Write a MATLAB file of SBD anew and return what is found wrong with it."""
    savemat(raw / SBD / kind / f"{SBD_ONLY[0]}.mat", value)
    with pytest.raises(DataError) as caught:
        prepare_dataset("voc2012", tmp_path / "out", raw=raw)
    assert "1 of 10 images" in str(caught.value)
    return str(caught.value)


SMALL = np.zeros((3, 4))
WRONG = {
    "expected the variable GTcls, found other": ("cls", {"other": 1}),
    "GTcls to have the fields Segmentation, found none": ("cls", {"GTcls": np.eye(3)}),
    "the fields Segmentation, found Boundaries": ("cls", {"GTcls": {"Boundaries": 1}}),
    "has the labels [21]; expected 0 to 20": ("cls", {"GTcls": {"Segmentation": SMALL + 21}}),
    "has the labels [0.5]": ("cls", {"GTcls": {"Segmentation": SMALL + 0.5}}),
    "2008_000002.mat is 4x3, the image 2008_000002.jpg is": (
        "cls",
        {"GTcls": {"Segmentation": SMALL}},
    ),
    "two-dimensional label map, found 3 dimensions": (
        "cls",
        {"GTcls": {"Segmentation": np.zeros((3, 4, 5))}},
    ),
    "2008_000002.mat is 4x3, the image is": (
        "inst",
        {"GTinst": {"Segmentation": SMALL, "Categories": [[1]]}},
    ),
    "Categories has [21]; expected 1 to 20": (
        "inst",
        {"GTinst": {"Segmentation": SMALL, "Categories": [[21]]}},
    ),
}


@pytest.mark.parametrize("finding", WRONG)
def test_a_wrong_matlab_file_is_named_with_what_it_holds(raw, tmp_path, finding):
    text = matlab_finding(raw, tmp_path, *WRONG[finding])
    assert f"{SBD_ONLY[0]}.mat" in text and finding in text


@pytest.mark.parametrize("keep", [0, 60, 127, 128, 200, 0.5, 0.9])
def test_a_cut_matlab_file_never_shows_an_error_of_scipy(raw, tmp_path, keep):
    path = raw / SBD / "inst" / f"{SBD_ONLY[0]}.mat"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"1 of 10 images(.|\n)*2008_000002\.mat"):
        prepare_dataset("voc2012", tmp_path / "out", raw=raw)


@pytest.mark.parametrize(
    ("text", "finding"),
    [("", "names no image"), ("a\nb\na\n", "names images twice: a"), ("ü\n", "cannot be read")],
)
def test_a_wrong_list_is_named(raw, tmp_path, text, finding):
    path = raw / KIT / "ImageSets" / "Segmentation" / "val.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=finding) as caught:
        prepare_dataset("voc2012", tmp_path / "out", raw=raw)
    assert str(path) in str(caught.value)


def test_a_folder_without_the_kit_says_what_belongs_there(tmp_path):
    (tmp_path / "raw" / "photos").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        prepare_dataset("voc2012", tmp_path / "out", raw=tmp_path / "raw")
    assert "it holds photos" in str(caught.value)
    assert dataset_info("voc2012").layout in str(caught.value)


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "voc3").is_dir(), reason="no real images here")
def test_real_palette_files_of_the_kit(tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(SHARED / "voc3", raw / KIT)
    stems = sorted(path.stem for path in (raw / KIT / "JPEGImages").iterdir())
    lists = raw / KIT / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(stems[0])
    (lists / "val.txt").write_text("\n".join(stems[1:]))
    dataset = prepare_dataset("voc2012", tmp_path / "out", raw=raw)
    for record in dataset.images("val"):
        truth = png(raw, "SegmentationClass", record.stem)
        assert np.array_equal(read_label_map(record.semantic), truth)
        numbers = png(raw, "SegmentationObject", record.stem)
        assert len(masks_of(dataset, "val", record.stem)) == len(set(np.unique(numbers)) - {0, 255})
