"""Folders of label maps: each fault has its message, suspicious ones are said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import DataError
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic import instance_weighted as cityscapes_instances
from segbench.evaluation.semantic.folders import count_folder
from segbench.evaluation.semantic.scores import scores as semantic_scores

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
    scores = semantic_scores(found.counts, get_protocol("ade20k-150"))
    assert scores["pixel_accuracy"] == 1.0
    assert scores["miou"] == pytest.approx(4 / 150)


def test_several_kinds_of_fault_come_in_one_message(folders):
    save(folders[1], "a.png", TRUTH[:1])
    save(folders[1], "b.png", TRUTH, "RGB")
    save(folders[0], "c.png", TRUTH + 150)
    with pytest.raises(DataError) as caught:
        run(folders)
    kinds = ("another size", "cannot be read as label maps", "1 truths hold numbers outside")
    assert all(kind in caught.value.what for kind in kinds)
    assert "1 to C are the classes" in caught.value.fix


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
    assert semantic_scores(found.counts, get_protocol("cityscapes-fine"))["miou"] == 1.0
    weighted = cityscapes_instances.scores(found.labels)
    assert weighted["iiou"] == weighted["category_iiou"] == 1.0
    assert weighted["iiou_rider"] is None


def test_cityscapes_without_instance_ids_has_no_iiou(tmp_path):
    found = cityscapes(tmp_path, lambda truth: truth, instances=False)
    assert set(cityscapes_instances.scores(found.labels)) == {"per_class"}


@pytest.mark.parametrize(("protocol", "number"), [("coco-stuff", 11), ("mapillary-v1.2", 66),
                                                  ("camvid-12", 12)])  # fmt: skip
def test_numbers_no_class_has_are_refused(tmp_path, protocol, number):
    truth = np.zeros((2, 2), dtype=np.uint8)
    save(tmp_path / "gt", "a.png", truth)
    save(tmp_path / "pred", "a.png", np.full_like(truth, number))
    with pytest.raises(DataError, match=rf"\[{number}\]"):
        run((tmp_path / "gt", tmp_path / "pred"), protocol)
