"""Small valid truths with predictions on disk, for tests that break one thing in them."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.files import write_json, write_jsonl
from segbench.formats.label_maps import id2rgb, write_label_map, write_panoptic_ids

NAMES = ("a", "b", "c", "d")
SHAPE = (6, 8)
PROTOCOLS = {"instance": "coco-instances", "panoptic": "coco-panoptic"}
FRAMES = tuple(f"ulm_000000_00000{i}" for i in range(4))


@dataclass(frozen=True)
class ScoreSet:
    """Files below ``folder``, the commands that score them and the folder they may write."""

    folder: Path
    commands: list[list[str | Path]]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def path(self, name: str) -> Path:
        return self.folder / name

    def edit(self, name: str, change: Callable[[Any], Any]) -> None:
        """Change the content of a JSON file in place, or replace it by what is returned."""
        content = json.loads(self.path(name).read_text())
        changed = change(content)
        replaced = content if changed is None else changed
        self.path(name).write_text(json.dumps(replaced))

    def labels(self, name: str, labels: Any, mode: str | None = None) -> None:
        """Overwrite a PNG by an array, as it is or converted to a mode of Pillow."""
        image = Image.fromarray(np.asarray(labels))
        (image.convert(mode) if mode else image).save(self.path(name))

    def each(self, pattern: str, change: Callable[[Path], None]) -> None:
        for path in sorted(self.folder.glob(pattern)):
            change(path)

    def broken_crc(self, name: str) -> None:
        """Flip the checksum of a PNG's pixels."""
        data = bytearray(self.path(name).read_bytes())
        data[data.index(b"IEND") - 8] ^= 1
        self.path(name).write_bytes(data)

    def cut(self, name: str, kept: float) -> None:
        data = self.path(name).read_bytes()
        self.path(name).write_bytes(data[: int(kept * len(data))])

    def huge_png(self, name: str) -> None:
        """Write a tiny grey PNG whose header claims 60000 x 60000 pixels."""
        header = b"IHDR" + (60000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
        pixels = b"IDAT" + zlib.compress(bytes(1000))
        chunks = [
            (len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big")
            for c in (header, pixels, b"IEND")
        ]
        self.path(name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _score(folder: Path, task: str, truth: str, prediction: str, *options: str) -> ScoreSet:
    files = ["--gt", folder / truth, "--pred", folder / prediction]
    last = ["--out", folder / "out", "--json"]
    return ScoreSet(folder, [["score", "--task", task, *files, *options, *last]])


def label_maps(folder: Path, values: tuple[int, ...], *options: str) -> ScoreSet:
    """Four label maps that show ``values``, and the same as predictions."""
    labels = np.resize(np.array(values, dtype=np.uint8), SHAPE)
    for side in ("gt", "pred"):
        for name in NAMES:
            write_label_map(folder / side / f"{name}.png", labels)
    return _score(folder, "semantic", "gt", "pred", *options)


def pooled(folder: Path) -> ScoreSet:
    return label_maps(folder, (0, 1, 2, 255, 1), "--num-classes", "3")


def binary(folder: Path) -> ScoreSet:
    return label_maps(folder, (0, 1, 0, 0, 1), "--num-classes", "2")


def wide(folder: Path) -> ScoreSet:
    return label_maps(folder, (2, 4, 9, 255, 14), "--num-classes", "19")


def voc(folder: Path) -> ScoreSet:
    found = label_maps(folder, (0, 15, 20, 7, 3), "--protocol", "voc2012")
    truth = np.array(Image.open(folder / "gt/a.png"))
    truth[2] = 255
    found.labels("gt/a.png", truth)
    return found


def ade20k(folder: Path) -> ScoreSet:
    return label_maps(folder, (0, 3, 9, 150, 17), "--protocol", "ade20k-150")


def ade20k_low(folder: Path) -> ScoreSet:
    return label_maps(folder, (0, 3, 9, 149, 17), "--protocol", "ade20k-150")


def cityscapes(folder: Path) -> ScoreSet:
    """Truths with instance ids in a folder a city, predictions in one folder."""
    labels = np.resize(np.array([7, 11, 26, 0, 23], dtype=np.uint8), SHAPE)
    numbers = np.where(labels == 26, np.uint16(26001), labels)
    for frame in FRAMES:
        write_label_map(folder / f"gt/ulm/{frame}_gtFine_labelIds.png", labels)
        write_label_map(folder / f"gt/ulm/{frame}_gtFine_instanceIds.png", numbers)
        write_label_map(folder / f"pred/{frame}_leftImg8bit.png", labels)
    return _score(folder, "semantic", "gt", "pred", "--protocol", "cityscapes-fine")


def rle(mask: Any) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(np.asarray(mask, dtype=np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def instances(folder: Path) -> ScoreSet:
    """Two images; five objects of categories 3 and 8; each found, best first."""
    truths = [_object(i, image, category) for i, (image, category) in enumerate(OBJECTS, start=1)]
    images = [{"id": i, "height": SHAPE[0], "width": SHAPE[1]} for i in (1, 2)]
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    write_json(
        folder / "gt.json",
        {"images": images, "annotations": truths, "categories": categories},
    )
    kept = ("image_id", "category_id", "segmentation", "bbox")
    found = [{key: t[key] for key in kept} | {"score": 1 - t["id"] / 10} for t in truths]
    write_json(folder / "pred.json", found)
    return _score(folder, "instance", "gt.json", "pred.json")


OBJECTS = ((1, 3), (1, 8), (1, 3), (2, 8), (2, 3))
"""Image and category of each object of ``instances``."""


def _object(number: int, image: int, category: int) -> dict[str, Any]:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[number - 1 : number + 1, number : number + 3] = 1
    facts = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "area": 6}
    return {**facts, "bbox": [number, number - 1, 3, 2], "segmentation": rle(mask)}


PANOPTIC_CATEGORIES = (
    {"id": 7, "name": "road", "isthing": 0, "color": [9, 9, 9]},
    {"id": 24, "name": "person", "isthing": 1, "color": [200, 0, 0]},
)


def panoptic(folder: Path) -> ScoreSet:
    """Four images with a road (70001), a person (300) and void."""
    ids = np.full(SHAPE, 70001, dtype=np.int32)
    ids[1:4, 1:4], ids[5] = 300, 0
    facts = ((70001, 7, 31), (300, 24, 9))
    segments = [
        {"id": i, "category_id": c, "area": area, "iscrowd": 0, "bbox": [0, 0, 8, 5]}
        for i, c, area in facts
    ]
    annotations = [
        {"image_id": n, "file_name": f"{name}.png", "segments_info": segments}
        for n, name in enumerate(NAMES, start=1)
    ]
    for side in ("gt", "pred"):
        content = {"annotations": annotations, "categories": PANOPTIC_CATEGORIES}
        write_json(folder / f"{side}.json", content)
        for name in NAMES:
            write_panoptic_ids(folder / side / f"{name}.png", ids)
    return _score(folder, "panoptic", "gt.json", "pred.json")


def prepared(made: ScoreSet, task: str) -> ScoreSet:
    """Return the commands that score the files of ``instances`` or ``panoptic`` as a submission."""
    truth = json.loads(made.path("gt.json").read_text())
    data, mine = made.folder / "data", made.folder / "mine"
    name = {"instance": "instances", "panoptic": "panoptic"}[task]
    ids = sorted({entry["image_id"] for entry in truth["annotations"]})
    rows = [
        {"image_id": i, "image": f"images/val/{NAMES[i - 1]}.png", "width": SHAPE[1]}
        | {"height": SHAPE[0], "panoptic": f"panoptic/val/{NAMES[i - 1]}.png"}
        for i in ids
    ]
    write_jsonl(data / "val.jsonl", rows)
    write_json(data / f"annotations/{name}_val.json", truth)
    write_json(mine / f"{name}.json", json.loads(made.path("pred.json").read_text()))
    for folder, side in ((data / "panoptic/val", "gt"), (mine / "panoptic", "pred")):
        if made.path(side).is_dir():
            shutil.copytree(made.path(side), folder)
    categories = [
        {"isthing": 1, "color": [9, 9, 9 * i], **c} for i, c in enumerate(truth["categories"])
    ]
    facts = {"schema": 1, "name": "digit_scenes", "digest": "0", "categories": categories}
    facts |= {"tasks": [task], "splits": {"val": len(ids)}}
    write_json(data / "dataset.json", {**facts, "protocols": {task: PROTOCOLS[task]}})
    text = f"dataset: digit_scenes\ntasks: [{task}]\nfolder: {mine}\n"
    (made.folder / "mine.yaml").write_text(text)
    where = ["--data", data, "--out"]
    submit = ["submit", made.folder / "mine.yaml", *where, made.folder / "made"]
    evaluate = ["evaluate", "--predictions", made.folder / "made", *where, made.folder / "out2"]
    return ScoreSet(made.folder, [submit, evaluate])


def rgb(ids: Any) -> Any:
    return id2rgb(np.asarray(ids))


def submission(folder: Path) -> ScoreSet:
    """A prepared dataset of four images and the predictions a submission file names."""
    labels = np.resize(np.array([0, 1, 1, 255, 0], dtype=np.uint8), SHAPE)
    data, mine = folder / "data", folder / "mine"
    rows = [
        {"image_id": n, "image": f"images/val/{name}.png", "width": SHAPE[1], "height": SHAPE[0]}
        | {"semantic": f"semantic/val/{name}.png"}
        for n, name in enumerate(NAMES, start=1)
    ]
    write_jsonl(data / "val.jsonl", rows)
    for name in NAMES:
        write_label_map(data / f"semantic/val/{name}.png", labels)
        write_label_map(mine / f"semantic/{name}.png", labels)
    categories = [{**c, "id": i} for i, c in enumerate(PANOPTIC_CATEGORIES)]
    description = {"schema": 1, "name": "digit_scenes", "digest": "0", "categories": categories}
    description |= {"tasks": ["semantic"], "splits": {"val": 4}}
    write_json(data / "dataset.json", {**description, "protocols": {"semantic": "semantic-pooled"}})
    text = f"dataset: digit_scenes\ntasks: [semantic]\nfolder: {mine}\n"
    (folder / "mine.yaml").write_text(text)
    made = folder / "made"
    where = ["--data", data, "--out"]
    evaluate = ["evaluate", "--predictions", made, *where, folder / "out"]
    return ScoreSet(folder, [["submit", folder / "mine.yaml", *where, made], evaluate])
