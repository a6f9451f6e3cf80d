"""COCO 2017: published instances stay as they are, panoptic truth gives the semantic one."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, prepare_dataset
from segbench.datasets.prepare.checks import check_prepared
from segbench.formats.label_maps import read_label_map
from tests.datasets.miniatures import coco2017

SHARED = Path(os.environ.get("SEGBENCH_SHARED", Path(__file__).parents[3] / "shared")) / "data"


@pytest.fixture
def raw(tmp_path):
    """Every archive unpacked, the nested ones too."""
    coco2017.build(tmp_path / "archives")
    for archive in dataset_info("coco2017").archives:
        shutil.copytree(tmp_path / "archives" / archive.name, tmp_path / "raw", dirs_exist_ok=True)
    for nested in (tmp_path / "raw" / "annotations").glob("*.zip"):
        shutil.copytree(nested, nested.parent, dirs_exist_ok=True)
        shutil.rmtree(nested)
    return tmp_path / "raw"


def test_instances_are_those_pycocotools_reads_from_the_published_file(raw, tmp_path):
    dataset = prepare_dataset("coco2017", tmp_path / "out", raw=raw)
    theirs = COCO(str(raw / "annotations/instances_val2017.json"))
    ours = COCO(str(dataset.instances_file("val")))
    assert sorted(ours.getImgIds()) == sorted(theirs.getImgIds())
    for image_id in theirs.getImgIds():
        pairs = zip(ours.imgToAnns[image_id], theirs.imgToAnns[image_id], strict=True)
        for found, published in pairs:
            for key in ("category_id", "area", "bbox", "iscrowd"):
                assert found[key] == published[key]
            assert np.array_equal(ours.annToMask(found), theirs.annToMask(published))


def test_semantic_truth_is_the_panoptic_one_without_instances(raw, tmp_path):
    dataset = prepare_dataset("coco2017", tmp_path / "out", raw=raw)
    document = read_json(raw / "annotations/panoptic_train2017.json")
    for annotation, record in zip(document["annotations"], dataset.images("train"), strict=True):
        png = raw / "annotations/panoptic_train2017" / annotation["file_name"]
        colours = np.asarray(Image.open(png)).astype(int)
        ids = colours @ [1, 256, 65536]
        expected = np.full(ids.shape, 255)
        for segment in annotation["segments_info"]:
            train_id = dataset.table.train_id(segment["category_id"])
            expected[ids == segment["id"]] = train_id
        assert np.array_equal(read_label_map(record.semantic), expected)
        assert record.image_id == annotation["image_id"]


def test_things_of_the_panoptic_truth_can_stand_for_missing_instances(raw, tmp_path):
    (raw / "annotations/instances_train2017.json").unlink()
    with pytest.raises(DataError, match=r"instances_train2017\.json does not exist"):
        prepare_dataset("coco2017", tmp_path / "out", raw=raw)
    dataset = prepare_dataset(
        "coco2017", tmp_path / "out", raw=raw, options={"instances": "panoptic"}
    )
    objects = read_json(dataset.instances_file("train"))["annotations"]
    assert len(objects) == 4 * 3
    assert sum(o["iscrowd"] for o in objects) == 4
    with pytest.raises(ConfigError, match="expected official or panoptic"):
        prepare_dataset("coco2017", tmp_path / "o2", raw=raw, options={"instances": "x"})


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("panoptic", lambda d: d.pop("images"), "a list 'images'"),
        ("panoptic", lambda d: d["annotations"][0].update(image_id=99), "not among images"),
        ("panoptic", lambda d: d["annotations"].pop(), "has no annotation in"),
        ("panoptic", lambda d: d["images"][0].update(height=7), "its JSON says"),
        ("panoptic", lambda d: d["annotations"][0]["segments_info"].pop(), "are not listed"),
        (
            "panoptic",
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=12),
            "unknown category",
        ),
        ("instances", lambda d: d["annotations"][0].update(category_id=12), "unknown category"),
        ("instances", lambda d: d["annotations"][0].update(segmentation=[[1, 2]]), "polygons"),
        ("instances", lambda d: d["annotations"][0].update(image_id=99), "not in the panoptic"),
        (
            "instances",
            lambda d: d["annotations"][2]["segmentation"]["counts"].append(1),
            "do not cover",
        ),
    ],
)
def test_broken_documents_are_named(raw, tmp_path, file, change, message):
    edit(raw / "annotations" / f"{file}_val2017.json", change)
    with pytest.raises(DataError, match=message):
        prepare_dataset("coco2017", tmp_path / "out", raw=raw)


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "coco_panoptic").is_dir(), reason="no shared data")
def test_the_real_subset_is_prepared_and_clean(tmp_path):
    dataset = prepare_dataset(
        "coco2017",
        tmp_path / "out",
        raw=SHARED / "coco_panoptic",
        options={"instances": "panoptic"},
    )
    assert dataset.description["splits"] == {"train": 100, "val": 50}
    findings = check_prepared(dataset, workers=1).findings
    assert not [str(finding) for finding in findings if finding.level == "error"]
    assert {f.kind for f in findings} <= {"partial-split", "absent-class"}
