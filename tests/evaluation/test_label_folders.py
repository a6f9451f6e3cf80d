"""Folders of label maps: each fault has its message, suspicious ones are said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segbench.errors import DataError
from segbench.evaluation import cityscapes_instances, semantic
from segbench.evaluation.label_folders import count_folder
from segbench.evaluation.protocol import get_protocol

TRUTH = np.array([[1, 2, 3], [0, 5, 5]], dtype=np.uint8)


def save(folder, name, labels, mode=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels))
    (image.convert(mode) if mode else image).save(path)


@pytest.fixture
def folders(tmp_path):
    truth, prediction = tmp_path / "gt", tmp_path / "pred"
    for name in ("a.png", "b.png", "c.png", "d.png"):
        save(truth, name, TRUTH)
        save(prediction, name, TRUTH)
    return truth, prediction


def run(folders, protocol="ade20k-150", classes=None):
    chosen = get_protocol(protocol)
    size = chosen.num_classes or classes
    return count_folder(*folders, protocol=chosen, num_classes=size)


def test_a_clean_folder(folders):
    found = run(folders)
    assert found.warnings == []
    assert found.counts.image_ids == ("a", "b", "c", "d")
    scores = semantic.scores(found.counts, get_protocol("ade20k-150"))
    assert scores["pixel_accuracy"] == 1.0
    assert scores["miou"] == pytest.approx(4 / 150)


def all_names(folder, labels, mode=None):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        save(folder, name, labels, mode)


FAULTS = {
    "size": (lambda p: all_names(p, TRUTH[:, :2]), "4 predictions have another size than their "
             "truth; first a.png 2x2 for 2x3, b.png 2x2 for 2x3, c.png 2x2 for 2x3"),
    "transposed": (lambda p: save(p, "b.png", TRUTH.T.copy()), "1 predictions have another size"),
    "colour": (lambda p: save(p, "c.png", TRUTH, "RGB"),
               "1 predictions cannot be read as label maps; first c.png (expected a one-channel"),
    "rgba": (lambda p: save(p, "c.png", TRUTH, "RGBA"), "found mode RGBA"),
    "two channels": (lambda p: save(p, "c.png", TRUTH, "LA"), "found mode LA"),
    "bilevel": (lambda p: save(p, "c.png", TRUTH > 2), "found mode 1"),
    "outside": (lambda p: save(p, "d.png", TRUTH + 148),
                "1 predictions hold numbers outside the 'reduce-zero' numbering; first "
                "d.png [151, 153]"),
    "void as 255": (lambda p: save(p, "d.png", np.full_like(TRUTH, 255)), "d.png [255]"),
    "16 bit": (lambda p: save(p, "a.png", TRUTH.astype(np.uint16) + 1000), "a.png [1000, 1001"),
    "16 bit with 255": (lambda p: save(p, "a.png", np.full((2, 3), 255, dtype=np.uint16)),
                        "first a.png [255]"),
    "missing": (lambda p: [(p / n).unlink() for n in ("a.png", "c.png")],
                "2 of 4 predictions are missing: a.png, c.png"),
    "empty file": (lambda p: (p / "a.png").write_bytes(b""), "cannot be read as an image"),
    "truncated": (lambda p: (p / "a.png").write_bytes((p / "a.png").read_bytes()[:40]),
                  "1 predictions cannot be read"),
    "html": (lambda p: (p / "a.png").write_text("<html>"), "1 predictions cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_files(folders, fault):
    break_it, words = FAULTS[fault]
    break_it(folders[1])
    with pytest.raises(DataError) as caught:
        run(folders)
    assert words in caught.value.what
    assert str(folders[1]) in caught.value.what


def test_several_kinds_of_fault_come_in_one_message(folders):
    save(folders[1], "a.png", TRUTH[:1])
    save(folders[1], "b.png", TRUTH, "RGB")
    save(folders[0], "c.png", TRUTH + 150)
    with pytest.raises(DataError) as caught:
        run(folders)
    kinds = ("another size", "cannot be read as label maps", "1 truths hold numbers outside")
    assert all(kind in caught.value.what for kind in kinds)
    assert "1 to C are the classes" in caught.value.fix


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_folder(folders, which):
    paths = list(folders)
    paths[which] = paths[which] / "nowhere"
    with pytest.raises(DataError, match="nowhere is not a folder"):
        run(paths)


def test_a_folder_without_pngs(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no PNG"):
        run((tmp_path / "empty", folders[1]))


SHIFTS = [
    (1, "one too high (a zero label not reduced)"),
    (-1, "one too low (a zero label reduced that should not be, or reduced twice)"),
]


@pytest.mark.parametrize(("shift", "words"), SHIFTS)
@pytest.mark.parametrize(("protocol", "base"), [("ade20k-150", 1), ("semantic-pooled", 0)])
def test_a_shift_by_one_is_noticed(tmp_path, shift, words, protocol, base):
    rng = np.random.default_rng(0)
    truth = rng.integers(base + 2, base + 17, (20, 20)).astype(np.uint8)
    save(tmp_path / "gt", "a.png", truth)
    save(tmp_path / "pred", "a.png", (truth.astype(np.int16) + shift).astype(np.uint8))
    found = run((tmp_path / "gt", tmp_path / "pred"), protocol, 19)
    assert len(found.warnings) == 1
    assert words in found.warnings[0]


FRAME = "aachen_000000_000019"


def cityscapes(tmp_path, prediction, instances=True):
    truth = np.array([[7, 8, 11, 24], [26, 26, 0, 33]], dtype=np.uint8)
    folder = tmp_path / "gt" / "aachen"
    save(folder, f"{FRAME}_gtFine_labelIds.png", truth)
    save(folder, f"{FRAME}_gtFine_color.png", truth, "RGB")
    if instances:
        numbers = np.where(truth >= 24, truth.astype(np.uint16) * 1000, truth)
        save(folder, f"{FRAME}_gtFine_instanceIds.png", numbers + (numbers > 255))
    save(tmp_path / "pred", f"{FRAME}_leftImg8bit.png", prediction(truth))
    return run((tmp_path / "gt", tmp_path / "pred"), "cityscapes-fine")


def test_cityscapes_files_are_paired_by_frame_and_give_iiou(tmp_path):
    found = cityscapes(tmp_path, lambda truth: truth)
    assert semantic.scores(found.counts, get_protocol("cityscapes-fine"))["miou"] == 1.0
    weighted = cityscapes_instances.scores(found.labels)
    assert weighted["iiou"] == weighted["category_iiou"] == 1.0
    assert weighted["iiou_rider"] is None


def test_cityscapes_without_instance_ids_has_no_iiou(tmp_path):
    found = cityscapes(tmp_path, lambda truth: truth, instances=False)
    assert set(cityscapes_instances.scores(found.labels)) == {"per_class"}


def test_train_ids_where_label_ids_are_due(tmp_path):
    train = np.full(34, 18, dtype=np.uint8)
    train[[7, 8, 11, 24, 26, 33]] = [0, 1, 2, 11, 13, 18]
    found = cityscapes(tmp_path, lambda truth: train[truth])
    assert any("train ids in place of 'cityscapes-label-ids'" in w for w in found.warnings)


@pytest.mark.parametrize("number", [34, 255])
def test_cityscapes_ids_outside_the_table(tmp_path, number):
    with pytest.raises(DataError, match=rf"\[{number}\]"):
        cityscapes(tmp_path, lambda truth: np.where(truth == 0, number, truth).astype(np.uint8))


def test_two_predictions_of_one_frame(tmp_path):
    save(tmp_path / "pred" / "more", f"{FRAME}_again.png", np.zeros((2, 4), dtype=np.uint8))
    with pytest.raises(DataError, match="1 truths have more than one prediction"):
        cityscapes(tmp_path, lambda truth: truth)


@pytest.mark.parametrize(("protocol", "number"), [("voc2012", 21), ("voc2012", 255),
                                                  ("coco-stuff", 11), ("mapillary-v1.2", 66),
                                                  ("camvid-12", 12)])  # fmt: skip
def test_numbers_no_class_has_are_refused(tmp_path, protocol, number):
    truth = np.zeros((2, 2), dtype=np.uint8)
    save(tmp_path / "gt", "a.png", truth)
    save(tmp_path / "pred", "a.png", np.full_like(truth, number))
    with pytest.raises(DataError, match=rf"\[{number}\]"):
        run((tmp_path / "gt", tmp_path / "pred"), protocol)
