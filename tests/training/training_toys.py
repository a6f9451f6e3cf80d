"""A toy dataset in the prepared form and toy networks, small enough to train in a second."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.checked_yaml import parse
from segbench.formats.label_maps import id2rgb
from segbench.formats.prepared import PreparedDataset
from segbench.training.recipe import Recipe

CATEGORIES = [
    {"id": 3, "name": "sky", "isthing": False, "color": [10, 20, 30]},
    {"id": 7, "name": "ball", "isthing": True, "color": [200, 20, 30]},
    {"id": 9, "name": "grass", "isthing": False, "color": [10, 220, 30]},
    {"id": 11, "name": "box", "isthing": True, "color": [10, 20, 230]},
]
SIDE = 24
MODELS = '''
    import torch
    from torch import nn
    from torch.nn import functional as F

    from segbench.models import (
        Instances,
        PanopticMap,
        Prediction,
        Segment,
        SemanticModel,
        register_model,
    )


    class Toy(SemanticModel):
        def __init__(self, num_classes, width=8, dropout=0.2, kernel=3, norm=True, poison=-1):
            super().__init__(num_classes)
            self.backbone = nn.Conv2d(3, width, kernel, padding=kernel // 2)
            self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Conv2d(width, num_classes, 1)
            self.poison, self.calls = poison, 0

        def forward(self, images):
            features = self.dropout(F.relu(self.norm(self.backbone(images))))
            self.calls += 1
            logits = self.head(features)
            return {"logits": logits * float("nan") if self.calls - 1 == self.poison else logits}


    @register_model("toy", task="semantic", paper="none", year=2024, display_name="Toy")
    def toy(num_classes, **options):
        return Toy(num_classes, **options)


    class ToyPanoptic(nn.Module):
        """Says: the left half is the first stuff, one object of each thing on the right."""

        def __init__(self, num_things, num_stuff):
            super().__init__()
            self.num_things = num_things
            self.scale = nn.Parameter(torch.ones(()))
            self.score_threshold, self.panoptic_threshold = 0.0, 0.0

        def forward(self, images):
            return {"mean": images.mean((1, 2, 3)) * self.scale}

        def loss(self, outputs, targets):
            count = sum(len(one["labels"]) for one in targets.instances)
            return {"loss": (outputs["mean"] ** 2).sum() + count + targets.semantic.min()}

        def predict(self, outputs, sizes):
            return [self._one(h, w) for h, w in sizes]

        def _one(self, height, width):
            import numpy as np

            masks = np.zeros((self.num_things + 1, height, width), bool)
            ids = np.zeros((height, width), np.int32)
            ids[:, : width // 2] = 5
            segments = [Segment(5, self.num_things, False, height * (width // 2))]
            for i in range(self.num_things):
                masks[i, i, width // 2 :] = True
                ids[masks[i]] = i + 20
                segments.append(Segment(i + 20, i, True, int(masks[i].sum())))
            scores = np.array([0.9] * self.num_things + [0.01], np.float32)
            labels = np.array([*range(1, self.num_things + 1), 1])
            masks[-1, -1, -1] = True
            boxes = np.array(
                [[width // 2, i, width, i + 1] for i in range(self.num_things + 1)], np.float32
            )
            semantic = np.full((height, width), self.num_things, np.uint8)
            semantic[0, 0] = 255
            return Prediction(
                semantic, Instances(masks, labels, boxes, scores), PanopticMap(ids, tuple(segments))
            )


    @register_model("toy_panoptic", task="panoptic", paper="none", year=2024, display_name="Toy")
    def toy_panoptic(num_things, num_stuff, **options):
        return ToyPanoptic(num_things, num_stuff, **options)
'''


def write_models(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy_networks.py").write_text(textwrap.dedent(MODELS))
    return folder


def recipe(**changes: Any) -> Recipe:
    values = {
        "model": "toy", "dataset": "toys", "task": "semantic", "iterations": 40,
        "batch_size": 4, "base_lr": 0.05, "scale_range": (0.8, 1.2), "crop_size": (16, 16),
        "horizontal_flip": True, "color_jitter": 0.2, "shift": 3, "warmup_iterations": 4,
        "checkpoint_interval": 5, "clip_grad_norm": 5.0, "gpus": 0,
    }  # fmt: skip
    return parse(Recipe, {**values, **changes}, "toy recipe")


def write_dataset(root: Path, *, train: int = 10, val: int = 5, seed: int = 0) -> PreparedDataset:
    """Sky above grass with a ball and a box of random places; exact truth of every task."""
    rng = np.random.default_rng(seed)
    for split, number in (("train", train), ("val", val)):
        _write_split(root, split, number, rng)
    histogram = {"train": {"pixels": [400, 50, 300, 0], "ignored": 7}}
    description = {
        "schema": 1, "name": "toys", "tasks": ["semantic", "instance", "panoptic"],
        "categories": CATEGORIES, "splits": {"train": train, "val": val},
        "protocols": {}, "digest": f"toys-{seed}", "class_histogram": histogram,
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(description))
    return PreparedDataset.open(root)


def _write_split(root: Path, split: str, number: int, rng: np.random.Generator) -> None:
    folders = [root / "images" / split, root / "semantic" / split, root / "panoptic" / split]
    for folder in (*folders, root / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    rows, objects, panoptic = [], [], []
    for image_id in range(1, number + 1):
        semantic, ids = _scene(rng)
        stem = f"{image_id:03d}.png"
        colors = np.array([c["color"] for c in CATEGORIES], np.int64)[semantic]
        noisy = np.clip(colors + rng.integers(-9, 9, colors.shape), 0, 255).astype(np.uint8)
        for folder, array in zip(folders, (noisy, semantic, id2rgb(ids)), strict=True):
            Image.fromarray(array).save(folder / stem)
        row = {"image_id": image_id, "image": f"images/{split}/{stem}", "width": SIDE}
        rows.append({**row, "height": SIDE, "semantic": f"semantic/{split}/{stem}"})
        panoptic.append({"image_id": image_id, "file_name": stem, "segments_info": _segments()})
        for train_id in (1, 3):
            objects.append(_object(semantic == train_id, train_id, image_id, len(objects) + 1))
        objects.append({**objects[-1], "id": len(objects) + 1, "iscrowd": 1})
    (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, rows in (("instances", objects), ("panoptic", panoptic)):
        path = root / "annotations" / f"{name}_{split}.json"
        path.write_text(json.dumps({"annotations": rows, "categories": CATEGORIES}))


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    semantic = np.zeros((SIDE, SIDE), np.uint8)
    semantic[SIDE // 2 :] = 2
    for train_id, left in ((1, 0), (3, SIDE // 2)):
        top, x = int(rng.integers(0, SIDE - 6)), int(rng.integers(left, left + SIDE // 2 - 6))
        semantic[top : top + 6, x : x + 6] = train_id
    return semantic, np.array([30, 10, 300, 70000], np.int32)[semantic]


def _segments() -> list[dict[str, Any]]:
    ids = (30, 10, 300, 70000)
    return [
        {"id": s, "category_id": c["id"], "iscrowd": 0}
        for s, c in zip(ids, CATEGORIES, strict=True)
    ]


def _object(mask: np.ndarray, train_id: int, image_id: int, number: int) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": number, "image_id": image_id, "category_id": CATEGORIES[train_id]["id"],
        "iscrowd": 0, "bbox": coco_mask.toBbox(runs).tolist(), "area": float(mask.sum()),
        "segmentation": {"size": [SIDE, SIDE], "counts": runs["counts"].decode()},
    }  # fmt: skip
