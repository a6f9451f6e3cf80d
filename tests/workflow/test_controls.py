"""Control rows land where theory says, computed here with NumPy and scored by the evaluators."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import ConfigError
from segbench.core.files import read_json, write_json
from segbench.datasets import prepare_dataset
from segbench.evaluation.count_split import evaluate
from segbench.formats.prepared import PreparedDataset
from segbench.workflow.config import CONTROLS
from segbench.workflow.controls import control_relabelling, majority_train_id, write_control

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def raw_people(folder):
    """Four images with two people each, in both splits."""
    rng = np.random.default_rng(0)
    for stem in ("FudanPed00001", "FudanPed00002", "FudanPed00003", "FudanPed00009"):
        numbers = np.zeros((40, 50), dtype=np.uint8)
        numbers[5:25, 3:12], numbers[10:30, 20:31] = 1, 2
        for name, array in {
            f"images/{stem}.png": rng.integers(0, 256, (40, 50, 3)).astype(np.uint8),
            f"masks/{stem}_mask.png": numbers,
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name)
    return folder


def street(folder):
    rng = np.random.default_rng(3)
    for split, void in (("train", 0.1), ("val", 0.3)):
        for number in range(2):
            labels = rng.integers(0, 11, (30, 40)).astype(np.uint8)
            labels[rng.random((30, 40)) < 0.3] = 4
            labels[rng.random((30, 40)) < void] = 11
            image = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
            for name, array in ((split, image), (f"{split}annot", labels)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module", params=["digit_scenes", "pennfudan", "camvid"])
def dataset(request, tmp_path_factory):
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    if name == "digit_scenes":
        options = {"train": 4, "val": 6}
        return prepare_dataset(name, folder / "prepared", options=options)
    raw = {"pennfudan": raw_people, "camvid": street}[name](folder / "raw")
    return prepare_dataset(name, folder / "prepared", raw=raw)


@pytest.fixture
def control(dataset, tmp_path):
    def write(name):
        write_control(name, dataset, "val", tmp_path / name)
        return tmp_path / name

    return write


def scores_of(dataset, folder, task):
    protocol = dataset.protocol(task)
    counts = folder / f"{task}.npz"
    return evaluate(
        dataset, "val", folder, task=task, protocol_id=protocol, counts_path=counts
    ).scores


def semantic_pairs(dataset, folder):
    for record in dataset.images("val"):
        predicted = np.asarray(Image.open(folder / "semantic" / f"{record.stem}.png"))
        yield np.asarray(Image.open(record.semantic)), predicted


def class_ious(pairs, classes):
    """Intersection over union of each class from plain masks, void left out, NaN if absent."""
    intersection, union = np.zeros(classes), np.zeros(classes)
    for truth, predicted in pairs:
        scored = truth != 255
        for number in range(classes):
            is_truth, is_predicted = (truth == number) & scored, (predicted == number) & scored
            intersection[number] += (is_truth & is_predicted).sum()
            union[number] += (is_truth | is_predicted).sum()
    with np.errstate(invalid="ignore"):
        return intersection / union


def test_oracle_is_the_truth_and_scores_one_everywhere(dataset, control):
    folder = control("oracle")
    assert all(np.array_equal(t, p) for t, p in semantic_pairs(dataset, folder))
    for task in dataset.tasks:
        scores = scores_of(dataset, folder, task)
        kept = {
            key: value
            for key, value in scores.items()
            if value is not None and key[:2] != "n_" and key != "n" and "ar_" not in key
        }
        assert len(kept) >= 3
        assert set(kept.values()) == {1.0}, (task, kept)


def test_majority_class_has_its_share_of_the_pixels(dataset, control):
    folder = control("majority_class")
    majority = majority_train_id(dataset)
    train = np.concatenate(
        [np.asarray(Image.open(r.semantic)).ravel() for r in dataset.images("train")]
    )
    assert majority == np.bincount(train[train != 255]).argmax()
    pairs = list(semantic_pairs(dataset, folder))
    assert all((predicted == majority).all() for _, predicted in pairs)
    truth = np.concatenate([t.ravel() for t, _ in pairs])
    share = (truth == majority).sum() / (truth != 255).sum()
    ious = class_ious(pairs, len(dataset.table))
    assert ious[majority] == share
    scores = scores_of(dataset, folder, "semantic")
    assert scores["pixel_accuracy"] == pytest.approx(share, abs=1e-15)
    present = np.unique(truth[truth != 255])
    expected = share / len(set(present.tolist()) | {majority})
    assert scores["miou"] == pytest.approx(expected, abs=1e-15)


def test_majority_class_panoptic_is_one_segment_an_image(dataset, control):
    """A whole-image segment is a match where the class fills more than half the image."""
    if "panoptic" not in dataset.tasks:
        pytest.skip("no panoptic truth")
    folder, majority = control("majority_class"), majority_train_id(dataset)
    shares = [float((truth == majority).mean()) for truth, _ in semantic_pairs(dataset, folder)]
    matched = [share for share in shares if share > 0.5]
    missed = sum(0 < share <= 0.5 for share in shares)
    wrong = len(shares) - len(matched)
    expected = sum(matched) / (len(matched) + 0.5 * missed + 0.5 * wrong)
    stuff = [
        dataset.table.train_id(segment["category_id"])
        for annotation in read_json(dataset.panoptic_file("val"))["annotations"]
        for segment in annotation["segments_info"]
    ]
    present = set(stuff) & set(dataset.table.stuff_train_ids) | {majority}
    scores = scores_of(dataset, folder, "panoptic")
    assert scores["pq_stuff"] == pytest.approx(expected / len(present))
    assert scores["pq_things"] == 0
    assert read_json(folder / "instances.json") == []


@pytest.mark.parametrize("name", ["all_void", "shifted_labels"])
def test_void_and_shifted_score_zero_everywhere(dataset, control, name):
    folder = control(name)
    ious = class_ious(semantic_pairs(dataset, folder), len(dataset.table))
    assert np.nan_to_num(ious).max() == 0
    expected = {
        "semantic": ("miou", "pixel_accuracy", "fwiou", "mean_dice"),
        "instance": ("ap", "ap50", "ap75"),
        "panoptic": ("pq", "pq_things", "pq_stuff", "rq"),
    }
    for task in dataset.tasks:
        scores = scores_of(dataset, folder, task)
        assert {key: scores[key] for key in expected[task]} == dict.fromkeys(expected[task], 0.0)


def test_all_void_says_nothing(dataset, control):
    folder = control("all_void")
    assert all((predicted == 255).all() for _, predicted in semantic_pairs(dataset, folder))
    if "panoptic" in dataset.tasks:
        assert read_json(folder / "instances.json") == []
        for annotation in read_json(folder / "panoptic.json")["annotations"]:
            assert annotation["segments_info"] == []
            assert not np.asarray(Image.open(folder / "panoptic" / annotation["file_name"])).any()


def test_shifted_labels_take_the_next_class_and_keep_every_shape(dataset, control):
    folder, classes = control("shifted_labels"), len(dataset.table)
    for truth, predicted in semantic_pairs(dataset, folder):
        assert np.array_equal(
            predicted, np.where(truth == 255, 255, (truth.astype(int) + 1) % classes)
        )
    if "panoptic" not in dataset.tasks:
        return
    for group in (dataset.table.thing_train_ids, dataset.table.stuff_train_ids):
        ids = [dataset.table.category_ids[train_id] for train_id in group]
        following = dict(zip(ids, np.roll(ids, -1).tolist(), strict=True))
        truth = segments_by_place(dataset.panoptic_file("val"), ids)
        predicted = segments_by_place(folder / "panoptic.json", ids)
        alone = len(group) == 1
        assert predicted == ({} if alone else {k: following[v] for k, v in truth.items()})
    things = [a["category_id"] for a in read_json(folder / "instances.json")]
    assert bool(things) == (len(dataset.table.thing_train_ids) > 1)


def segments_by_place(path, categories):
    return {
        (annotation["image_id"], segment["id"]): segment["category_id"]
        for annotation in read_json(path)["annotations"]
        for segment in annotation["segments_info"]
        if segment["category_id"] in categories
    }


def test_the_oracle_leaves_crowds_out(dataset, tmp_path):
    if "panoptic" not in dataset.tasks:
        pytest.skip("no objects")
    shutil.copytree(dataset.root, tmp_path / "crowded")
    crowded = PreparedDataset.open(tmp_path / "crowded")
    instances, panoptic = (
        read_json(path) for path in (crowded.instances_file("val"), crowded.panoptic_file("val"))
    )
    instances["annotations"][0]["iscrowd"] = 1
    first = panoptic["annotations"][0]["segments_info"][0]
    first["iscrowd"] = 1
    write_json(crowded.instances_file("val"), instances)
    write_json(crowded.panoptic_file("val"), panoptic)
    write_control("oracle", crowded, "val", tmp_path / "out")
    assert len(read_json(tmp_path / "out" / "instances.json")) == len(instances["annotations"]) - 1
    predicted = read_json(tmp_path / "out" / "panoptic.json")["annotations"][0]
    assert first["id"] not in {segment["id"] for segment in predicted["segments_info"]}
    for task in ("instance", "panoptic"):
        scores = scores_of(crowded, tmp_path / "out", task)
        assert scores["ap" if task == "instance" else "pq"] == 1


def test_boxes_masks_and_scores_are_of_the_results_format(dataset, control):
    if "instance" not in dataset.tasks:
        pytest.skip("no objects")
    for entry in read_json(control("oracle") / "instances.json"):
        assert set(entry) == {"image_id", "category_id", "segmentation", "bbox", "score"}
        assert entry["score"] == 1.0 and len(entry["bbox"]) == 4


def test_a_thing_as_majority_covers_the_image(dataset, tmp_path):
    if "instance" not in dataset.tasks:
        pytest.skip("no objects")
    shutil.copytree(dataset.root, tmp_path / "changed")
    description = read_json(tmp_path / "changed" / "dataset.json")
    thing = dataset.table.thing_train_ids[0]
    description["class_histogram"]["train"]["pixels"][thing] = 10**9
    write_json(tmp_path / "changed" / "dataset.json", description)
    changed = PreparedDataset.open(tmp_path / "changed")
    write_control("majority_class", changed, "val", tmp_path / "out")
    found = read_json(tmp_path / "out" / "instances.json")
    records = changed.images("val")
    assert [entry["bbox"] for entry in found] == [[0, 0, r.width, r.height] for r in records]
    assert {entry["category_id"] for entry in found} == {changed.table.category_ids[thing]}
    scores_of(changed, tmp_path / "out", "instance")


def test_every_named_control_exists_and_a_wrong_one_is_suggested(dataset):
    for name in CONTROLS:
        control_relabelling(name, dataset)
    with pytest.raises(ConfigError, match=r"unknown control 'oracel'. Did you mean 'oracle'\?"):
        control_relabelling("oracel", dataset)
