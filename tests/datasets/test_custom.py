"""Folders of users, described by a YAML file: every form, every fault, the way to the board."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from segbench.cli import cli
from segbench.core import fingerprint
from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json
from segbench.datasets import dataset_info, dataset_infos, dataset_source, prepare_dataset
from segbench.datasets.custom import load_custom
from segbench.datasets.custom.listing import split_of
from segbench.datasets.custom.palette import _distance, _seen, colors_for
from segbench.datasets.custom.spec import CustomDataset
from segbench.datasets.pennfudan import split_of as pennfudan_split_of
from segbench.datasets.registry import dataset_module
from segbench.evaluation.protocol import get_protocol
from segbench.formats.label_maps import read_label_map, read_panoptic_ids
from segbench.workflow.plan import load_plan
from tests.datasets.miniatures._custom import build_folder

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SEGBENCH_SHARED", ROOT.parent / "shared")) / "data"
SPLIT_FOLDERS = 'images: "{split}/i"\nmasks: "{split}/m"\nsplits: [train, val]\n'


@pytest.fixture
def described(tmp_path, monkeypatch):
    """Write the YAML file of dataset 'mine' whose folder is ``mine/data``; return its module."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("SEGBENCH_DATASETS_PATH", str(folder))

    def write(text, *, build=True, images=12):
        path = folder / "mine.yaml"
        path.write_text(text if "folder:" in text else f"folder: data\n{text}")
        module = load_custom(path)
        if build:
            build_folder(module.spec, folder / "data", images=images)
        return module

    return write


def prepare(tmp_path, **options):
    return prepare_dataset("mine", tmp_path / "prepared", **options)


def labels_of(dataset, split="val"):
    return [read_label_map(record.semantic) for record in dataset.images(split)]


# What a file can say


def test_a_yaml_file_is_a_dataset_like_any_other(described, tmp_path):
    described("classes: [ground, tree, sky]\ndisplay_name: My <data>\n")
    info = dataset_infos()["mine"]
    assert (info.display_name, info.tasks) == ("My <data>", ("semantic",))
    assert info.folder == tmp_path / "mine/data" and "masks" in info.layout
    assert (info.licence, info.citation) == ("not stated", "not stated")
    assert list(info.splits) == ["train", "val"]
    for task in info.tasks:
        get_protocol(info.protocols[task], task=task)
    dataset = prepare(tmp_path)
    assert dataset.description["splits"] == {"train": 7, "val": 5}
    assert set(np.unique(labels_of(dataset))) == {0, 1, 2}


def test_what_the_file_says_decides_whether_to_prepare_again(described, tmp_path):
    described("classes: [ground, tree, sky]  # a comment\n")
    source = dataset_source("mine")
    first, before = prepare(tmp_path).description["request"], fingerprint.code_fingerprint([source])
    described("classes:\n  - ground\n  - tree\n  - sky\n", build=False)
    assert fingerprint.code_fingerprint([source]) == before
    assert prepare(tmp_path).description["request"] == first
    described("classes: [sky, tree, ground]\n", build=False)
    dataset = prepare(tmp_path)
    assert dataset.description["request"] != first
    assert dataset.table.names == ("sky", "tree", "ground")


def test_the_code_of_the_reader_counts(described):
    described("classes: [a, b]\n", build=False)
    reader = fingerprint.module_file("datasets.custom.truth")
    assert reader in fingerprint.closure([dataset_source("mine")])


def test_the_folder_of_the_configuration_takes_the_place_of_the_file_s(described, tmp_path):
    module = described("folder: /nowhere\nclasses: [a, b]\n", build=False)
    with pytest.raises(DataError, match="/nowhere is not a folder"):
        prepare(tmp_path)
    build_folder(module.spec, tmp_path / "elsewhere")
    assert prepare(tmp_path, raw=tmp_path / "elsewhere").description["splits"]["val"] == 5


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("classes: [a, b]\n", [0, 1, 255], [0, 1, 255]),
        ("classes: [a, b]\nfirst_id: 1\nignore: [0]\n", [0, 1, 2], [255, 0, 1]),
        ("classes: {a: 0, b: 255}\n", [0, 255], [0, 1]),
        ("classes: {a: {id: 7}, b: {id: 300}}\nignore: [0, 9]\n", [7, 300, 9], [0, 1, 255]),
        (
            'mask_format: colors\nclasses: {a: [0, 0, 9], b: "#ff8000"}\nignore: [[1, 2, 3]]\n',
            [(0, 0, 9), (255, 128, 0), (1, 2, 3)],
            [0, 1, 255],
        ),
    ],
)
def test_pixels_become_train_ids(described, tmp_path, text, values, expected):
    described(text)
    for path in sorted((tmp_path / "mine/data/masks").iterdir()):
        array = np.array(values)[np.arange(64) * len(values) // 64][None].repeat(48, 0)
        Image.fromarray(array.astype(np.uint16 if array.max() > 255 else np.uint8)).save(path)
    wanted = np.array(expected)[np.arange(64) * len(expected) // 64][None].repeat(48, 0)
    found = labels_of(prepare(tmp_path))
    assert len(found) == 5
    for labels in found:
        np.testing.assert_array_equal(labels, wanted)


def test_numbered_objects_become_instances_and_a_panoptic_map(described, tmp_path):
    described("mask_format: instance_ids\nclasses: [background, person]\n")
    dataset = prepare(tmp_path)
    assert dataset.tasks == ("semantic", "instance", "panoptic")
    assert [c["isthing"] for c in dataset.description["categories"]] == [False, True]
    record = dataset.images("val")[0]
    raw = read_label_map(tmp_path / f"mine/data/masks/{record.stem}.png")
    np.testing.assert_array_equal(read_label_map(record.semantic), (raw > 0).astype(np.uint8))
    ids = read_panoptic_ids(record.panoptic)
    assert len(np.unique(ids[raw > 0])) == raw.max() == 2
    areas = [
        a["area"]
        for a in read_json(dataset.instances_file("val"))["annotations"]
        if a["image_id"] == record.image_id
    ]
    assert areas == [int((raw == n).sum()) for n in (1, 2)]


def test_objects_without_a_background_class_are_instances_only(described, tmp_path):
    described("mask_format: instance_ids\nclasses: [cell]\n")
    dataset = prepare(tmp_path)
    assert dataset.tasks == ("instance",)
    assert dataset.images("val")[0].semantic is None
    assert dataset.description["class_histogram"]["val"]["pixels"][0] > 0


def test_coco_instances_keep_ids_areas_and_boxes(described, tmp_path):
    described("classes: {box: 3, can: 90}\ncoco_instances: a/all.json\n")
    path = tmp_path / "mine/data/a/all.json"
    content = json.loads(path.read_text())
    published = {(a["image_id"], *a["bbox"]): dict(a) for a in content["annotations"]}
    for annotation in content["annotations"][::2]:  # exports often leave these out
        del annotation["area"], annotation["bbox"], annotation["iscrowd"]
    path.write_text(json.dumps(content))
    dataset = prepare(tmp_path)
    assert (dataset.tasks, dataset.table.category_ids) == (("instance",), (3, 90))
    found = read_json(dataset.instances_file("val"))["annotations"]
    assert found
    for annotation in found:
        original = published[(annotation["image_id"], *annotation["bbox"])]
        assert annotation["area"] == original["area"]
        assert annotation["category_id"] == original["category_id"]
        assert annotation["segmentation"] == original["segmentation"]


def test_a_changed_coco_file_is_prepared_again(described, tmp_path):
    described("classes: {box: 3, can: 90}\ncoco_instances: all.json\n")
    first = prepare(tmp_path).digest
    path = tmp_path / "mine/data/all.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][1:]
    path.write_text(json.dumps(content))
    assert prepare(tmp_path).digest != first


def test_coco_categories_to_leave_out(described, tmp_path):
    described("classes: {box: 3, can: 90}\ncoco_instances: all.json\n")
    described("classes: {box: 3}\nignore: [90]\ncoco_instances: all.json\n", build=False)
    annotations = read_json(prepare(tmp_path).instances_file("val"))["annotations"]
    assert annotations and {a["category_id"] for a in annotations} == {3}


def test_coco_panoptic_has_all_three_truths(described, tmp_path):
    described("classes: {road: 21, car: {id: 3, thing: true}}\ncoco_panoptic: p/all.json\n")
    dataset = prepare(tmp_path)
    assert dataset.tasks == ("semantic", "instance", "panoptic")
    record = dataset.images("val")[0]
    ids = read_panoptic_ids(tmp_path / f"mine/data/p/all/{record.stem}.png")
    np.testing.assert_array_equal(read_panoptic_ids(record.panoptic), ids)
    np.testing.assert_array_equal(read_label_map(record.semantic), (ids > 100).astype(np.uint8))


@pytest.mark.parametrize(
    "text",
    [
        "classes: [a, b]\n",
        "classes: [a, b]\nmask_format: instance_ids\n",
        "classes: {a: 1}\ncoco_instances: a.json\n",
    ],
)
def test_images_can_be_prepared_in_other_processes(described, tmp_path, text):
    module = described(text)
    for items in module.sources(tmp_path / "mine/data", {}).values():
        for item in items:
            assert pickle.loads(pickle.dumps(item)).load().size == (48, 64)


def examples():
    text = (ROOT / "docs/custom-datasets.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n# (\w+)\.yaml.*?\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(("name", "text"), examples())
def test_examples_of_the_manual_work(described, tmp_path, name, text):
    described(re.sub(r"^folder: .*$", "folder: data", text, flags=re.MULTILINE), images=30)
    dataset = prepare(tmp_path)
    assert all(dataset.description["splits"].values())
    assert sum(sum(s["pixels"]) for s in dataset.description["class_histogram"].values()) > 0


def test_the_manual_has_every_key():
    text = (ROOT / "docs/custom-datasets.md").read_text(encoding="utf-8")
    assert [key for key in CustomDataset.model_fields if f"`{key}`" not in text] == []


# Splits


def test_splits_in_folders(described, tmp_path):
    described("classes: [a, b]\n" + SPLIT_FOLDERS)
    assert prepare(tmp_path).description["splits"] == {"train": 3, "val": 3}


def test_masks_are_split_as_images_are(described, tmp_path):
    described("classes: [a, b]\nimages: images/{split}\n")
    assert (tmp_path / "mine/data/masks/val").is_dir()
    assert prepare(tmp_path).description["splits"] == {"train": 3, "val": 3}


def test_folders_of_splits_may_have_other_names(described, tmp_path):
    described("classes: [a, b]\n" + SPLIT_FOLDERS)
    (tmp_path / "mine/data/train").rename(tmp_path / "mine/data/Training")
    text = SPLIT_FOLDERS.replace("[train, val]", "{train: Training, val: val}")
    described("classes: [a, b]\n" + text, build=False)
    assert prepare(tmp_path).description["splits"] == {"train": 3, "val": 3}


def test_splits_in_list_files(described, tmp_path):
    described("classes: [a, b]\nsplits: {train: l/train.txt, val: l/val.txt}\n")
    (tmp_path / "mine/data/l/val.txt").write_text("images/DSC_0003.jpg\r\nDSC_0001\n\n")
    dataset = prepare(tmp_path)
    assert dataset.description["splits"] == {"train": 6, "val": 2}
    assert [r.stem for r in dataset.images("val")] == ["DSC_0003", "DSC_0001"]


def test_shares_look_at_one_name_at_a_time():
    names = [f"image_{i}" for i in range(3000)]
    shares = {"val": 0.3, "test": 0.1}
    found = [split_of(name, shares) for name in names]
    assert abs(found.count("val") / 3000 - 0.3) < 0.03
    assert abs(found.count("test") / 3000 - 0.1) < 0.03
    assert {name for name, split in zip(names, found, strict=True) if split == "val"} == {
        name for name in names if pennfudan_split_of(name) == "val"
    }
    assert {split_of(name, {"train": 0.7, "val": 0.3}) for name in names} == {"train", "val"}


def test_images_and_masks_may_share_a_folder(described, tmp_path):
    described("classes: [a, b]\nimages: all/*.png\nmasks: all/*_mask.png\n")
    assert sum(prepare(tmp_path).description["splits"].values()) == 12


# Colours


def test_colours_are_distinct_also_for_the_colour_blind():
    own = (200, 10, 10)
    colors = colors_for([None, own, *[None] * 18])
    assert colors[1] == own and len(set(colors)) == 20
    seen = _seen(colors)
    apart = [_distance(np.delete(seen, i, 1), seen[:, i : i + 1]).min() for i in range(20)]
    assert min(apart) > 0.05
    assert len(set(colors_for([None] * 255))) == 255
    assert colors_for([None] * 3) == colors_for([None] * 8)[:3]


# Faults

FAULTS = [
    ("clases: [a, b]", "unknown key 'clases'. Did you mean 'classes'?"),
    ("classes: {a: {colour: [1, 2, 3]}}", "'classes.a.colour'. Did you mean 'color'?"),
    ("classes: [a, b, a]", "'a' is listed twice"),
    ("classes: {a: 1, a: 2}", ":2: 'a' is given twice"),
    ("classes: [1, b]", "a class name is a text; put 1 in quotes"),
    ("classes: []", "classes: Dictionary should have at least 1 item"),
    ("classes: [a, ' ']", "a name is empty"),
    ("classes: {a: 1, b: 1}", "'a' and 'b' have the same id 1"),
    ("classes: {a: [1, 2, 3], b: [1, 2, 3]}", "'a' and 'b' have the same colour (1, 2, 3)"),
    ("classes: {a: [1, 2, 300]}", "less than or equal to 255 (found 300)"),
    ("classes: {a: red}", "a colour is [red, green, blue] or '#rrggbb' in quotes"),
    (f"classes: {[f'c{i}' for i in range(256)]}", "at most 255 items"),
    ("classes: [a]\nmasks: ../m", "masks: '../m' must lie inside folder"),
    ("classes: [a]\nimages: /abs", "images: '/abs' must lie inside folder"),
    ("classes: [a]\nimages: '*/x.png'", "one star stands for the name of an image"),
    ("classes: [a]\nimages: 'i/[ab]*.png'", "only *, ** and {split} stand for something"),
    ("classes: [a]\nmask_format: colors", "needs the colour of 'a'"),
    ("classes: [a]\nmask_format: color", "Input should be 'index', 'colors'"),
    ("classes: {a: 2}\nmask_format: instance_ids", "ids of classes mean nothing"),
    ("classes: [a, b, c]\nmask_format: instance_ids", "takes one class of things"),
    ("classes: [a]\nmasks: m\ncoco_instances: a.json", "give one of them"),
    ("classes: {a: 0}\ncoco_instances: a.json", "category ids of COCO files count from 1"),
    ("classes: [a]\ncoco_instances: a.txt", "'a.txt' is no .json file"),
    ("classes: [a]\ncoco_panoptic: a.json", "say which are things"),
    ("classes: [a]\ncoco_instances: a.json\nmask_format: colors", "it is of plain masks"),
    ("classes: [a]\nimages: '*.jpg'\ncoco_instances: a.json", "give the folder, without *"),
    ("classes: [a]\nignore: ['#000000']", "expected numbers, as in [255], found (0, 0, 0)"),
    ("classes: [a]\nignore: [0]", "ignore: 0 is also a class"),
    ("classes: {a: [1, 2, 3]}\nmask_format: colors\nignore: 0", "expected colours"),
    ("classes: [a]\nsplits: [train, val]", "names alone are sub-folders: put {split}"),
    ("classes: [a]\nsplits: {val: 1.2}", "the share of 'val' is 1.2"),
    ("classes: [a]\nsplits: {val: 0.6, test: 0.4}", "add up to 1 and leave nothing for train"),
    ("classes: [a]\nsplits: {train: 0.6, val: 0.2}", "add up to 0.8, not 1; leave train out"),
    ("classes: [a]\nsplits: {train: 0.6, val: v.txt}", "not a mixture"),
    ("classes: [a]\nsplits: {'a b': 0.1}", "'a b' is no name"),
    ("classes: [a]\nmasks: 'm/{split}'", "put {split} in both"),
    ("classes: [a]\nimages: '{split}'\nsplits: {val: 0.2}", "remove {split} from the paths"),
    ("classes: [a]\nprotocols: {panoptic: coco-panoptic}", "there is no panoptic truth here"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_mistake_in_the_file_is_said_with_its_line(described, text, message):
    with pytest.raises(ConfigError) as error:
        described(text + "\n", build=False)
    assert message in str(error.value)
    assert re.search(r"mine\.yaml:\d+: ", str(error.value))


def test_the_commands_say_it_in_one_line(described, tmp_path):
    described("classes: [a]\n", build=False)
    (tmp_path / "mine/mine.yaml").write_text("folder: data\nclases: [a]\n")
    done = subprocess.run(
        [sys.executable, "-m", "segbench", "prepare", "mine"],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "mine.yaml:2: unknown key 'clases'. Did you mean 'classes'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_name_of_the_file_must_be_a_name(tmp_path):
    (tmp_path / "my data.yaml").write_text("folder: x\nclasses: [a]\n")
    with pytest.raises(ConfigError, match=r"my data\.yaml: the file's name is the dataset's"):
        load_custom(tmp_path / "my data.yaml")


def test_a_name_is_taken_once_and_other_yaml_files_are_left_alone(described, tmp_path, monkeypatch):
    described("classes: [a]\n", build=False)
    (tmp_path / "mine/config.yaml").write_text("runs: []\n")
    assert "config" not in dataset_infos()
    (tmp_path / "mine/mine.yaml").rename(tmp_path / "mine/camvid.yaml")
    with pytest.raises(ConfigError, match="dataset 'camvid' is defined twice"):
        dataset_info("camvid")


def test_every_command_knows_the_folder(described, tmp_path, monkeypatch):
    described("classes: [a, b]\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (listed,) = [row for row in command("datasets", "--json") if row["name"] == "mine"]
    assert listed["next"] == "segbench prepare mine"
    assert command("datasets", "show", "mine", "--json")["folder"] == str(tmp_path / "mine/data")
    command("download", "mine")
    assert read_json(Path("results/raw/mine.json"))["files"] == 24
    report = command("check-data", "mine", "--json")
    assert (report["form"], report["images"]) == ("raw", {"train": 7, "val": 5})
    (tmp_path / "mine/data/masks/DSC_0000.png").unlink()
    report = command("check-data", "mine", "--json", code=1)
    assert any("DSC_0000" in str(f) for f in report["findings"])


def command(*arguments, code=0):
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if "--json" in arguments else None


def finding(tmp_path):
    with pytest.raises(DataError) as error:
        prepare(tmp_path)
    return str(error.value)


@pytest.mark.fault(14, 15)
def test_every_bad_image_is_listed(described, tmp_path):
    described("classes: [a, b]\n")
    masks, images = tmp_path / "mine/data/masks", tmp_path / "mine/data/images"
    (masks / "DSC_0000.png").unlink()
    (images / "DSC_0001.jpg").unlink()
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(masks / "DSC_0002.png")
    Image.fromarray(np.zeros((48, 63), np.uint8)).save(masks / "DSC_0003.png")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(masks / "DSC_0004.png")
    said = finding(tmp_path)
    assert "5 of 12 images cannot be used" in said
    assert "masks/DSC_0000.png does not exist" in said
    assert "images/DSC_0001.jpg does not exist" in said
    assert "DSC_0002.png: values 9 are neither a class nor ignored" in said
    assert "DSC_0003.png is 63x48" in said
    assert "found mode RGB; masks of colours are read with mask_format: colors" in said


@pytest.mark.fault(15)
def test_an_unknown_colour_is_named(described, tmp_path):
    described('mask_format: colors\nclasses: {a: "#102030", b: "#405060"}\n')
    for path in (tmp_path / "mine/data/masks").iterdir():
        picture = np.array(Image.open(path))
        picture[0, 0] = (1, 2, 3)
        Image.fromarray(picture).save(path)
    assert "colours #010203 are neither a class nor ignored" in finding(tmp_path)


@pytest.mark.parametrize(
    ("text", "broken", "message"),
    [
        ("classes: [a]\nimages: photo/*.jpg\n", "photo", "nothing matches"),
        ("classes: [a]\nmasks: m/*_mask.png\n", "m", "nothing matches"),
        ("classes: [a, b]\n" + SPLIT_FOLDERS, "val/i", "nothing matches"),
        ("classes: {a: 1}\ncoco_instances: x/a.json\n", "x", "nothing matches"),
        ("classes: {a: 1}\ncoco_instances: a.json\n", "images", "nothing matches"),
    ],
)
def test_a_pattern_without_files_says_what_is_there(described, tmp_path, text, broken, message):
    described(text)
    path = tmp_path / "mine/data" / broken
    path.rename(path.with_name("Other"))
    said = finding(tmp_path)
    assert message in said and "Other" in said


def test_two_files_of_one_name(described, tmp_path):
    described("classes: [a]\nmasks: m/**/*.png\n")
    (tmp_path / "mine/data/m/deep").mkdir()
    for target in ("m/deep/DSC_0000.png", "m/DSC_0000.png"):
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "mine/data" / target)
    assert "two files for 'DSC_0000': m/DSC_0000.png and m/deep/DSC_0000.png" in finding(tmp_path)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("DSC_0001\nDSC_9999\n", "1 of its lines name no image: DSC_9999"),
        ("DSC_0000\n", "1 images are in both: DSC_0000"),
        ("\n", "split 'val' has none of the 12 images"),
        (None, "val.txt cannot be read"),
    ],
)
def test_faults_of_list_files(described, tmp_path, listing, message):
    described("classes: [a, b]\nsplits: {train: train.txt, val: val.txt}\n")
    path = tmp_path / "mine/data/val.txt"
    path.unlink() if listing is None else path.write_text(listing)
    assert message in finding(tmp_path)


def test_a_share_that_gets_no_image(described, tmp_path):
    described("classes: [a]\nsplits: {val: 0.000001}\n")
    assert "split 'val' has none of the 12 images" in finding(tmp_path)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("{box: 3}", "category 90 ('can') is not among classes"),
        ("{box: 90, can: 3}", "category 90 is 'can' there, here 'box'"),
        ("{box: 3, can: 90, cup: 7}", "it has no category 7 ('cup')"),
    ],
)
def test_coco_categories_must_be_the_classes(described, tmp_path, classes, message):
    described("classes: {box: 3, can: 90}\ncoco_instances: all.json\n")
    described(f"classes: {classes}\ncoco_instances: all.json\n", build=False)
    said = finding(tmp_path)
    assert message in said
    assert '-> classes: {"box": 3, "can": 90}' in said


def test_things_and_stuff_must_agree_with_the_panoptic_file(described, tmp_path):
    described("classes: {road: 21, car: {id: 3, thing: true}}\ncoco_panoptic: all.json\n")
    text = "classes: {road: {id: 21, thing: true}, car: {id: 3, thing: true}}\n"
    described(text + "coco_panoptic: all.json\n", build=False)
    said = finding(tmp_path)
    assert "category 21 ('road') is stuff there" in said
    assert '{"road": 21, "car": {id: 3, thing: true}}' in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="../x.jpg"), "is not inside the folder"),
        (lambda c: c["images"][0].pop("width"), "an image has no 'width'"),
        (lambda c: c.update(annotations={}), "with a list 'annotations' of objects"),
        (lambda c: c["annotations"][0].update(image_id=777), "does not list: [777]"),
        (lambda c: c["images"][0].update(width=63), "its JSON says 63x48"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "three points or more"),
        (lambda c: c.update(images=c["images"][1:],
                            annotations=[a for a in c["annotations"] if a["image_id"] > 1]),
         "DSC_0000.jpg is not among the images of all.json"),
    ],
)  # fmt: skip
def test_faults_of_coco_files(described, tmp_path, change, message):
    described("classes: {box: 3, can: 90}\ncoco_instances: all.json\n")
    path = tmp_path / "mine/data/all.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert message in finding(tmp_path)


def test_an_unknown_protocol_stops_the_plan(described, tmp_path):
    described("classes: [a]\nprotocols: {semantic: ade20k-15}\n")
    (tmp_path / "config.yaml").write_text("runs: [{dataset: mine, controls: [oracle]}]\n")
    with pytest.raises(ConfigError, match=r"protocol 'ade20k-15'\. Did you mean 'ade20k-150'"):
        load_plan(tmp_path / "config.yaml")


# Real data


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "pennfudan").is_dir(), reason="needs the shared real images")
def test_penn_fudan_by_yaml_equals_its_own_converter(described):
    module = described(
        f"folder: {SHARED / 'pennfudan'}\nmasks: masks/*_mask.png\nmask_format: instance_ids\n"
        "classes: {person: {thing: true}, background: }\nsplits: {val: 0.3}\n",
        build=False,
    )
    assert_same_images(module, "pennfudan")


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "camvid").is_dir(), reason="needs the shared real images")
def test_camvid_by_yaml_equals_its_own_converter(described):
    module = described(
        f"folder: {SHARED / 'camvid'}\nimages: '{{split}}'\nmasks: '{{split}}annot'\n"
        f"classes: {list(dataset_info('camvid').table.names)}\nignore: 11\n"
        "splits: [train, val, test]\n",
        build=False,
    )
    assert_same_images(module, "camvid")


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "coco_panoptic").is_dir(), reason="needs the shared real images")
def test_coco_panoptic_by_yaml_has_every_segment(described, tmp_path):
    root = SHARED / "coco_panoptic"
    document = root / "annotations/panoptic_val2017.json"
    text = "images: '{split}2017'\ncoco_panoptic: annotations/panoptic_{split}2017.json\n"
    described(f"folder: {root}\n{text}classes: {{x: {{id: 1, thing: true}}}}\nsplits: [val]\n",
              build=False)  # fmt: skip
    classes = finding(tmp_path).split("-> ")[1]  # the message holds what to write
    described(f"folder: {root}\n{text}{classes}\nsplits: [val]\n", build=False)
    dataset = prepare(tmp_path)
    published = {a["image_id"]: a["segments_info"] for a in read_json(document)["annotations"]}
    for annotation in read_json(dataset.panoptic_file("val"))["annotations"]:
        expected = published.pop(annotation["image_id"])
        keys = ("id", "category_id", "iscrowd")
        assert [[s[k] for k in keys] for s in annotation["segments_info"]] == [
            [s[k] for k in keys] for s in expected
        ]
    assert not published


def assert_same_images(module, name):
    """Compare every split with that of a dataset's own file, and the truth of every tenth image."""
    raw = SHARED / name
    expected = dataset_module(name).sources(raw, dataset_info(name).options)
    found = module.sources(raw, {})
    assert found.keys() == expected.keys()
    for split, items in expected.items():
        assert [item.stem for item in found[split]] == [item.stem for item in items]
        for ours, theirs in list(zip(found[split], items, strict=True))[::10]:
            assert_same(ours.load(), theirs.load())


def assert_same(ours, theirs):
    assert (ours.image, ours.size) == (theirs.image, theirs.size)
    np.testing.assert_array_equal(ours.semantic, theirs.semantic)
    assert (ours.panoptic is None) == (theirs.panoptic is None)
    if theirs.panoptic is not None:
        np.testing.assert_array_equal(ours.panoptic.ids, theirs.panoptic.ids)
        assert ours.panoptic.segments == theirs.panoptic.segments
        np.testing.assert_array_equal(ours.instances.masks, theirs.instances.masks)
        np.testing.assert_array_equal(ours.instances.labels, theirs.instances.labels)


# From a folder to the board


def readme_blocks():
    """Return the YAML files of the section on one's own data by name, and its commands."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## Your own data\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", section, re.DOTALL)
    commands = re.sub(r" +#.*", "", "\n".join(re.findall(r"^    (.*)$", section, re.MULTILINE)))
    return dict(blocks), commands.replace("\\\n", " ").splitlines()


@pytest.mark.slow
def test_the_readme_s_folder_becomes_a_board_row(tmp_path):
    """The files and commands of the README, word for word, in a folder outside the checkout."""
    files, commands = readme_blocks()
    assert len(files["workflow/datasets/leaves.yaml"].splitlines()) <= 10
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    home = tmp_path / "home"
    spec = load_custom(tmp_path / "workflow/datasets/leaves.yaml").spec
    build_folder(spec, home / "leaves")
    config = tmp_path / "leaves-board.yaml"
    config.write_text(
        files["leaves-board.yaml"].replace("[fcn_tiny]", "[fcn_tiny], iterations: 2")
        + "report: {gallery_images: 0}\n"
    )
    source = tmp_path / "workflow/experiments/digit_scenes/fcn_tiny.yaml"
    source.parent.mkdir(parents=True)
    source.write_text((ROOT / "workflow/experiments/digit_scenes/fcn_tiny.yaml").read_text())
    environment = {
        **os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(Path.home() / ".cache"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    assert commands[0].split() == ["segbench", "prepare", "leaves"]
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, timeout=300, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout[-4000:])
    table = json.loads((tmp_path / "results/table.json").read_text())
    cells = {cell["experiment"]: cell for cell in table["cells"]}
    assert {cell["status"] for cell in cells.values()} == {"ok"}
    assert cells["oracle"]["record"]["scores"]["miou"] == 1.0
    assert cells["fcn_tiny"]["record"]["protocol"] == "semantic-pooled"
    assert len(cells["fcn_tiny"]["record"]["per_class"]) == 3
    assert "fcn_tiny" in (tmp_path / "results/report/index.html").read_text()
