"""Cityscapes as prepared: iIoU and instance AP of a prediction folder equal the official form's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.files import read_json, write_json
from segbench.datasets import prepare_dataset
from segbench.evaluation import counts
from segbench.evaluation.cityscapes import average_precision as cityscapes_ap
from segbench.evaluation.cityscapes.folders import count_folder
from segbench.evaluation.count_split import evaluate
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.protocols.cityscapes_labels import LABEL_IDS
from segbench.evaluation.semantic import instance_weighted as cityscapes_instances
from segbench.evaluation.semantic.folders import count_folder as count_maps
from tests.evaluation.cityscapes_scenes import detections, scene, write_masks, write_truth

IMAGES = 3
STEMS = [f"ulm_{i:06d}_000019" for i in range(IMAGES)]


def truths(seed):
    """Return label ids and numbers without numbered caravans, which no train id tells apart."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < IMAGES:
        labels, numbers = scene(rng)
        numbers[np.isin(numbers // 1000, (29, 30))] = 29
        labels[numbers == 29] = 29
        things = np.unique(numbers[numbers >= 1000] // 1000)
        if len(things):
            found.append((labels, numbers))
    return found


@pytest.fixture
def folders(tmp_path):
    """Write raw files, prepare them, and predict once in train ids and once officially."""
    rng = np.random.default_rng(1)
    train = np.full(34, 255, dtype=np.uint8)
    train[list(LABEL_IDS)] = np.arange(19)
    results = []
    for folder in ("raw/leftImg8bit/val/ulm", "predicted/semantic", "official/maps"):
        (tmp_path / folder).mkdir(parents=True)
    for image_id, (stem, (labels, numbers)) in enumerate(zip(STEMS, truths(4), strict=True), 1):
        write_truth(tmp_path / "raw/gtFine/val", stem, labels, numbers)
        photo = np.zeros((*labels.shape, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / f"raw/leftImg8bit/val/ulm/{stem}_leftImg8bit.png")
        noise = rng.choice(LABEL_IDS, labels.shape).astype(np.uint8)
        guess = np.where(rng.random(labels.shape) < 0.6, labels, noise)
        guess[np.isin(guess, LABEL_IDS, invert=True)] = 0
        Image.fromarray(train[guess]).save(tmp_path / f"predicted/semantic/{stem}.png")
        Image.fromarray(guess).save(tmp_path / f"official/maps/{stem}.png")
        found = [d for d in detections(rng, numbers) if d[1] in (24, 25, 26, 27, 28, 31, 32, 33)]
        write_masks(tmp_path / "official/masks", stem, found)
        results += [
            {"image_id": image_id, "category_id": label, "score": score, "segmentation": rle(mask)}
            for mask, label, score in found
        ]
    write_json(tmp_path / "predicted/instances.json", results)
    dataset = prepare_dataset("cityscapes", tmp_path / "prepared", raw=tmp_path / "raw")
    return tmp_path, dataset


def rle(mask):
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def score(folders, task, protocol):
    root, dataset = folders
    return evaluate(
        dataset, "val", root / "predicted",
        task=task, protocol_id=protocol, counts_path=root / f"{task}.npz",
    )  # fmt: skip


def test_iiou_is_in_the_scores_and_equals_the_official_form(folders):
    root, _ = folders
    found = score(folders, "semantic", "cityscapes-fine")
    maps = count_maps(
        root / "raw/gtFine/val", root / "official/maps",
        protocol=get_protocol("cityscapes-fine"), num_classes=19,
    )  # fmt: skip
    expected = cityscapes_instances.scores(maps.labels)
    rows = expected.pop("per_class")
    assert expected["iiou"] is not None
    assert {key: found.scores[key] for key in expected} == expected
    assert [row["iiou"] for row in found.per_class] == [row["iiou"] for row in rows]
    stored = counts.load_counts(root / "semantic.npz")
    assert np.array_equal(stored["semantic_labels"].instances, maps.labels.instances)


def test_instance_ap_equals_the_official_form(folders):
    root, _ = folders
    found = score(folders, "instance", "cityscapes-instances")
    official = count_folder(root / "raw/gtFine/val", root / "official/masks").counts
    expected = cityscapes_ap.scores(official, get_protocol("cityscapes-instances"))
    assert found.scores == {"ap": expected["ap"], "ap50": expected["ap50"]}
    assert expected["ap50"] > 0
    by_name = {row["name"]: row["ap"] for row in found.per_class}
    assert list(by_name.values()) == [row["ap"] for row in expected["per_class"]]
    assert list(by_name)[:3] == ["person", "rider", "car"]


def test_labels_of_another_data_set_are_refused(folders):
    root, dataset = folders
    description = read_json(dataset.root / "dataset.json")
    description["categories"][0]["id"] = 1
    (dataset.root / "dataset.json").write_text(json.dumps(description))
    vars(dataset).clear()
    changed = type(dataset)(root / "prepared")
    with pytest.raises(DataError, match="expected the label ids of Cityscapes in order"):
        score((root, changed), "semantic", "cityscapes-fine")
