"""What holds for every dataset; a new one is tested without a new test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json, read_jsonl
from segbench.datasets import dataset_info, dataset_infos, prepare_dataset, verify_prepared
from segbench.formats.prepared import PreparedDataset
from tests.datasets.miniatures import build_raw, options_of

NAMES = list(dataset_infos())
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""pycocotools 2.0.11 decodes masks through an interface that NumPy 2 deprecates."""


@pytest.fixture(scope="module", params=NAMES)
def prepared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    raw = build_raw(request.param, folder)
    options = options_of(request.param)
    return prepare_dataset(request.param, folder / "prepared", raw=raw, options=options)


def labels_of(record):
    return np.asarray(Image.open(record.semantic))


def ids_of(record):
    red, green, blue = np.asarray(Image.open(record.panoptic)).astype(int).transpose(2, 0, 1)
    return red + 256 * green + 256 * 256 * blue


def test_dataset_json_says_what_is_on_disk(prepared):
    info, description = dataset_info(prepared.name), prepared.description
    assert prepared.table.categories == info.categories
    assert prepared.tasks == info.tasks
    for split, count in description["splits"].items():
        records = prepared.images(split)
        assert len(records) == count > 0
        assert len({record.stem for record in records}) == count
        assert len({record.image_id for record in records}) == count
    verify_prepared(prepared)


def test_nothing_in_the_form_is_a_machine_path(prepared):
    for path in [*prepared.root.glob("*.json*"), *prepared.root.glob("annotations/*.json")]:
        assert str(prepared.root.parent) not in path.read_text()


def test_label_maps_fit_images_and_histogram(prepared):
    for split, histogram in prepared.description["class_histogram"].items():
        counts = np.zeros(256, dtype=int)
        for record in prepared.images(split):
            with Image.open(record.image) as image:
                assert image.size == (record.width, record.height)
            labels = labels_of(record)
            assert labels.shape == (record.height, record.width)
            counts += np.bincount(labels.ravel(), minlength=256)
        classes = len(prepared.table)
        assert histogram["pixels"] == counts[:classes].tolist()
        assert histogram["ignored"] == counts[255]
        assert counts[classes:255].sum() == 0


def test_coco_instances_load_and_agree_with_their_masks(prepared, capsys):
    if "instance" not in prepared.tasks:
        pytest.skip("no instance truth")
    for split in prepared.description["splits"]:
        coco = COCO(prepared.instances_file(split))
        assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
        assert {cat["name"] for cat in coco.cats.values()} == {
            category.name for category in prepared.table.categories if category.isthing
        }
        labels = {record.image_id: labels_of(record) for record in prepared.images(split)}
        for annotation in coco.anns.values():
            mask = coco.annToMask(annotation)
            assert mask.any() and abs(annotation["area"] - mask.sum()) < 1
            apart = np.subtract(annotation["bbox"], bounding_box(mask))
            assert np.abs(apart).max() < 1, "published areas and boxes have fractions of a pixel"
            train_id = prepared.table.train_id(annotation["category_id"])
            assert set(labels[annotation["image_id"]][mask == 1]) == {train_id}
    capsys.readouterr()


def test_panoptic_files_equal_semantic_and_instances_pixel_by_pixel(prepared):
    if "panoptic" not in prepared.tasks:
        pytest.skip("no panoptic truth")
    for split in prepared.description["splits"]:
        panoptic = read_json(prepared.panoptic_file(split))
        instances = read_json(prepared.instances_file(split))["annotations"]
        by_image = {a["image_id"]: a for a in panoptic["annotations"]}
        for record in prepared.images(split):
            ids, segments = ids_of(record), by_image[record.image_id]["segments_info"]
            assert by_image[record.image_id]["file_name"] == record.panoptic.name
            assert set(np.unique(ids)) - {0} == {s["id"] for s in segments}
            painted = np.full(ids.shape, 255)
            things = set()
            for segment in segments:
                inside = ids == segment["id"]
                assert segment["area"] == inside.sum()
                assert segment["bbox"] == bounding_box(inside)
                train_id = prepared.table.train_id(segment["category_id"])
                painted[inside] = train_id
                if prepared.table.categories[train_id].isthing:
                    things.add((segment["category_id"], inside.tobytes()))
            labels, shown = labels_of(record), painted != 255
            assert np.array_equal(painted[shown], labels[shown])
            without_instance = set(np.unique(labels[~shown]).tolist())
            assert without_instance <= {255, *prepared.table.thing_train_ids}
            own = [a for a in instances if a["image_id"] == record.image_id]
            masks = [coco_mask.decode(a["segmentation"]).astype(bool) for a in own]
            pairs = zip(own, masks, strict=True)
            assert things == {(a["category_id"], mask.tobytes()) for a, mask in pairs}


def bounding_box(mask):
    rows, columns = np.nonzero(mask)
    x, y = int(columns.min()), int(rows.min())
    return [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]


def again(prepared, out):
    raw = prepared.root.parent / "raw"
    return prepare_dataset(
        prepared.name,
        out,
        raw=raw if raw.exists() else None,
        options=options_of(prepared.name),
    )


def test_a_complete_folder_is_left_alone(prepared):
    before = {p: p.stat().st_mtime_ns for p in prepared.root.rglob("*")}
    again(prepared, prepared.root)
    assert {p: p.stat().st_mtime_ns for p in prepared.root.rglob("*")} == before


def test_the_same_input_gives_the_same_bytes_elsewhere(prepared, tmp_path):
    other = again(prepared, tmp_path / "elsewhere")
    assert other.digest == prepared.digest
    for path in prepared.root.rglob("*"):
        if path.is_file():
            assert (other.root / path.relative_to(prepared.root)).read_bytes() == path.read_bytes()


def test_a_lost_file_is_noticed_and_made_again(prepared, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(prepared.root, copy)
    split = next(iter(prepared.description["splits"]))
    lost = Path(PreparedDataset.open(copy).images(split)[0].image)
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DataError, match=r"1 files are missing or changed.*" + lost.stem):
        verify_prepared(PreparedDataset.open(copy))
    again(prepared, copy)
    assert lost.read_bytes() == content


def test_a_changed_file_is_noticed(prepared, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(prepared.root, copy)
    row = read_jsonl(copy / f"{next(iter(prepared.description['splits']))}.jsonl")[0]
    Image.new("L", (row["width"], row["height"])).save(copy / row["semantic"])
    with pytest.raises(DataError, match=row["semantic"]):
        verify_prepared(PreparedDataset.open(copy))


def test_an_unknown_option_is_refused(prepared, tmp_path):
    with pytest.raises(ConfigError, match="has no option 'sizze'"):
        prepare_dataset(prepared.name, tmp_path / "x", options={"sizze": 3})
    assert not (tmp_path / "x").exists()


def test_dataset_json_has_the_documented_keys(prepared):
    expected = {
        "schema", "name", "display_name", "description", "categories", "tasks", "splits",
        "protocols", "licence", "citation", "homepage", "options", "digest", "class_histogram",
    }  # fmt: skip
    assert expected <= set(json.loads(prepared.description_file.read_text()))
