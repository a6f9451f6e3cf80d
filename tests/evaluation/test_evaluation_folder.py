"""A prediction folder against a prepared dataset: scores, stored counts, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json, write_json, write_jsonl
from segbench.evaluation import counts as stored
from segbench.evaluation.count_split import evaluate
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.scores import score_parts
from segbench.formats.label_maps import write_label_map, write_panoptic_ids
from segbench.formats.prepared import PreparedDataset

PROTOCOLS = {
    "semantic": "semantic-pooled",
    "instance": "coco-instances",
    "panoptic": "coco-panoptic",
}
CATEGORIES = [
    {"id": 4, "name": "disc", "isthing": 1, "color": [200, 0, 0]},
    {"id": 9, "name": "sky", "isthing": 0, "color": [0, 0, 200]},
    {"id": 2, "name": "box", "isthing": 1, "color": [0, 200, 0]},
]
SHAPE = (40, 48)


def scene(seed):
    """Return semantic train ids and panoptic ids of two discs and two boxes on a sky."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    semantic = np.full(SHAPE, 1, dtype=np.uint8)
    panoptic = np.full(SHAPE, 5, dtype=np.int32)
    for segment_id in (10, 11, 20, 21):
        cy, cx = rng.integers(8, 32), rng.integers(8, 40)
        near = (y - cy) ** 2 + (x - cx) ** 2 <= 36
        if segment_id >= 20:
            near = (abs(y - cy) <= 4) & (abs(x - cx) <= 7)
        semantic[near], panoptic[near] = (0 if segment_id < 20 else 2), segment_id
    semantic[0], panoptic[0] = 255, 0
    return semantic, panoptic


def segments(panoptic):
    category = {5: 9, 10: 4, 11: 4, 20: 2, 21: 2}
    present = [int(i) for i in np.unique(panoptic) if i]
    return [
        {"id": i, "category_id": category[i], "iscrowd": 0, "area": int((panoptic == i).sum())}
        for i in present
    ]


def objects(panoptic, image_id):
    for segment in segments(panoptic):
        if segment["category_id"] != 9:
            rle = coco_mask.encode(np.asfortranarray((panoptic == segment["id"]).astype(np.uint8)))
            box = coco_mask.toBbox(rle).tolist()
            mask = {"size": list(SHAPE), "counts": rle["counts"].decode()}
            facts = {"image_id": image_id, "category_id": segment["category_id"]}
            yield {**facts, "bbox": box, "segmentation": mask, "area": segment["area"]}


def write_split(folder, split, scenes, *, truth):
    """Write maps and COCO files of a split, as truth or as predictions."""
    annotations, found = [], []
    sub = f"/{split}" if truth else ""
    for image_id, (semantic, panoptic) in scenes.items():
        write_label_map(folder / f"semantic{sub}/{image_id:03}.png", semantic)
        write_panoptic_ids(folder / f"panoptic{sub}/{image_id:03}.png", panoptic)
        entry = {"image_id": image_id, "file_name": f"{image_id:03}.png"}
        annotations.append({**entry, "segments_info": segments(panoptic)})
        found += list(objects(panoptic, image_id))
    if truth:
        images = [{"id": i, "height": SHAPE[0], "width": SHAPE[1]} for i in scenes]
        found = [{**o, "id": n, "iscrowd": 0} for n, o in enumerate(found, start=1)]
        things = [c for c in CATEGORIES if c["isthing"]]
        path = folder / f"annotations/panoptic_{split}.json"
        write_json(path, {"images": images, "annotations": annotations, "categories": CATEGORIES})
        path = folder / f"annotations/instances_{split}.json"
        write_json(path, {"images": images, "annotations": found, "categories": things})
    else:
        write_json(folder / "panoptic.json", {"annotations": annotations})
        write_json(folder / "instances.json", [{**o, "score": 1.0} for o in found])


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "data"
    scenes = {i: scene(i) for i in (3, 8, 12)}
    write_split(root, "val", scenes, truth=True)
    rows = [
        {
            "image_id": i,
            "image": f"images/val/{i:03}.jpg",
            "width": SHAPE[1],
            "height": SHAPE[0],
            "semantic": f"semantic/val/{i:03}.png",
            "panoptic": f"panoptic/val/{i:03}.png",
        }
        for i in scenes
    ]
    write_jsonl(root / "val.jsonl", rows)
    description = {"schema": 1, "name": "toy", "digest": "0", "categories": CATEGORIES}
    description |= {"tasks": list(PROTOCOLS), "splits": {"val": 3}, "protocols": PROTOCOLS}
    write_json(root / "dataset.json", description)
    return PreparedDataset.open(root)


@pytest.fixture
def oracle(tmp_path):
    folder = tmp_path / "oracle"
    write_split(folder, "val", {i: scene(i) for i in (12, 3, 8)}, truth=False)
    return folder


def run(dataset, predictions, task, *, split="val", protocol=None):
    path = predictions / f"{task}.npz"
    protocol = protocol or PROTOCOLS[task]
    found = evaluate(dataset, split, predictions, task=task, protocol_id=protocol, counts_path=path)
    return found, path


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("semantic", ["miou", "mean_dice", "pixel_accuracy", "mean_accuracy", "fwiou"]),
        ("instance", ["ap", "ap50", "ap75", "ar_100", "box_ap", "box_ap50", "box_ar_100"]),
        ("panoptic", ["pq", "sq", "rq", "pq_things", "pq_stuff", "sq_things", "rq_stuff"]),
    ],
)
def test_oracle_is_exactly_one_everywhere(dataset, oracle, task, keys):
    found, path = run(dataset, oracle, task)
    assert {key: found.scores[key] for key in keys} == dict.fromkeys(keys, 1.0)
    assert found.num_images == 3
    assert stored.image_scores(stored.load_counts(path)) == {3: 1.0, 8: 1.0, 12: 1.0}
    json.dumps([found.scores, found.per_class], allow_nan=False)


def test_rows_of_classes_are_named_and_in_the_order_of_the_dataset(dataset, oracle):
    for task, names in {
        "semantic": ["disc", "sky", "box"],
        "panoptic": ["disc", "sky", "box"],
        "instance": ["disc", "box"],
    }.items():
        rows = run(dataset, oracle, task)[0].per_class
        assert [row["name"] for row in rows] == names
        assert [row["id"] for row in rows] == [4, 9, 2] if len(names) == 3 else [4, 2]
        assert rows[-1]["color"] == [0, 200, 0]
        assert rows[-1]["isthing"] is True
    assert {"ap", "box_ap", "ap50", "box_ap50"} <= rows[0].keys()


def test_rows_follow_their_category_not_their_place(dataset, oracle):
    content = read_json(oracle / "instances.json")
    write_json(oracle / "instances.json", [o for o in content if o["category_id"] == 4])
    rows = run(dataset, oracle, "instance")[0].per_class
    assert [(row["name"], row["ap50"]) for row in rows] == [("disc", 1.0), ("box", 0.0)]


@pytest.mark.parametrize("task", PROTOCOLS)
def test_stored_counts_score_the_same_and_are_the_same_bytes(dataset, oracle, task, monkeypatch):
    rng = np.random.default_rng(0)
    write_split(oracle, "val", {i: scene(i + rng.integers(2)) for i in (3, 8, 12)}, truth=False)
    first, path = run(dataset, oracle, task)
    before = path.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2e9))
    second, _ = run(dataset, oracle, task)
    assert path.read_bytes() == before
    assert first == second
    again = score_parts(stored.load_counts(path), get_protocol(PROTOCOLS[task]))
    del again["per_class"]
    assert again == first.scores


@pytest.mark.parametrize("task", PROTOCOLS)
def test_a_subset_scores_as_its_images_do(dataset, oracle, task):
    write_split(oracle, "val", {3: scene(3), 8: scene(1), 12: scene(2)}, truth=False)
    parts = stored.load_counts(run(dataset, oracle, task)[1])
    main = {"semantic": "miou", "panoptic": "pq", "instance": "ap50"}[task]
    protocol = get_protocol(PROTOCOLS[task])
    assert score_parts(stored.subset(parts, [3]), protocol)[main] == 1.0
    rest = score_parts(stored.subset(parts, [8, 12]), protocol)[main]
    assert rest < score_parts(parts, protocol)[main] < 1.0
    worst = stored.image_scores(parts)
    assert worst[3] == 1.0
    assert max(worst[8], worst[12]) < 1.0
    with pytest.raises(DataError, match=r"1 images have no \w+ counts, first ids \[5\]"):
        stored.subset(parts, [3, 5])


@pytest.mark.fault(18)
def test_a_missing_semantic_prediction_stops_everything(dataset, oracle):
    (oracle / "semantic/008.png").unlink()
    with pytest.raises(DataError, match=r"no prediction for 1 of 3 images, first 008\.png"):
        run(dataset, oracle, "semantic")
    assert not (oracle / "semantic.npz").exists()


def test_a_prediction_of_another_size_names_its_file(dataset, oracle):
    write_label_map(oracle / "semantic/003.png", np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"semantic: 1 .*003\.png 4x4 for 40x48"):
        run(dataset, oracle, "semantic")


def test_truth_and_image_list_must_agree(dataset, oracle):
    rows = [json.loads(line) for line in (dataset.root / "val.jsonl").read_text().splitlines()]
    write_jsonl(dataset.root / "val.jsonl", rows[:2])
    for task in ("instance", "panoptic"):
        with pytest.raises(DataError, match=r"differ in 1 images, first ids \[12\]"):
            run(dataset, oracle, task)


def test_an_empty_split_has_no_score(dataset, oracle):
    write_jsonl(dataset.root / "val.jsonl", [])
    path = dataset.panoptic_file("val")
    write_json(path, {**read_json(path), "annotations": []})
    for task in ("semantic", "panoptic"):
        with pytest.raises(DataError, match="no images to score"):
            run(dataset, oracle, task)


def test_a_folder_without_predictions_is_named(dataset, tmp_path):
    for task, name in {"instance": "instances.json", "panoptic": "panoptic.json"}.items():
        with pytest.raises(DataError, match=f"{name} does not exist"):
            run(dataset, tmp_path / "empty", task)


def test_what_cannot_be_scored_is_a_configuration_error(dataset, oracle):
    with pytest.raises(ConfigError, match="scores the semantic task, not panoptic"):
        run(dataset, oracle, "panoptic", protocol="semantic-pooled")
    with pytest.raises(ConfigError, match="11 classes, the counts have 3"):
        run(dataset, oracle, "semantic", protocol="camvid-11-void-ignored")
    with pytest.raises(ConfigError, match="no split 'vall'"):
        run(dataset, oracle, "semantic", split="vall")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_a_broken_counts_file_is_named(tmp_path, content):
    (tmp_path / "counts.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"counts\.npz is no counts file"):
        stored.load_counts(tmp_path / "counts.npz")
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        stored.load_counts(tmp_path / "none.npz")


def test_an_array_file_that_holds_no_counts_is_named(tmp_path):
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(DataError, match=r"other\.npz is no counts file"):
        stored.load_counts(tmp_path / "other.npz")


def test_repeated_image_ids_are_not_stored(dataset, oracle, tmp_path):
    parts = stored.load_counts(run(dataset, oracle, "semantic")[1])
    twice = {"semantic": parts["semantic"] + parts["semantic"]}
    with pytest.raises(DataError, match="an image id occurs twice"):
        stored.save_counts(tmp_path / "counts.npz", twice)


def test_no_module_of_the_evaluators_imports_torch():
    code = (
        "import importlib, pkgutil, sys, segbench.evaluation as e\n"
        "names = [m.name for m in pkgutil.iter_modules(e.__path__)]\n"
        "[importlib.import_module(f'segbench.evaluation.{n}') for n in names]\n"
        "assert len(names) >= 8, names\n"
        "bad = {'torch', 'torchvision', 'timm', 'snakemake', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_counts_of_no_task_are_no_counts(tmp_path):
    np.savez(tmp_path / "counts.npz", schema=np.int64(1))
    with pytest.raises(DataError, match="it holds the counts of no task"):
        stored.load_counts(tmp_path / "counts.npz")
