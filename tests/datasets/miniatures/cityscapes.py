"""Cityscapes' two archives: photographs, label ids, 16-bit instance ids and polygons."""

import json
from pathlib import Path

import numpy as np

from tests.datasets.miniatures.scenes import save, scene

CITIES = {"train": ("aachen", "ulm"), "val": ("frankfurt",), "test": ("berlin",)}


def build(folder: Path) -> None:
    """2 cities of train, 1 of val, 2 images each; test has no truth, as published."""
    for position, (split, cities) in enumerate(CITIES.items()):
        for number, city in enumerate(cities):
            for frame in range(2):
                _frame(folder, split, city, 100 * position + 10 * number + frame)


def _frame(folder: Path, split: str, city: str, number: int) -> None:
    """Cars 26, a person 24, a group of bicycles 33; road 7, sky 23, parking 9; border 0."""
    made = scene(
        100 * list(CITIES).index(split) + number,
        48,
        96,
        things=(26, 26, 24, 33),
        stuff=(7, 9, 23),
        void=0,
    )
    name = f"{city}_{number:06d}_000019"
    images = folder / "leftImg8bit_trainvaltest.zip" / "leftImg8bit" / split / city
    save(images / f"{name}_leftImg8bit.png", made.image)
    truth = folder / "gtFine_trainvaltest.zip" / "gtFine" / split / city
    labels = made.labels if split != "test" else np.zeros_like(made.labels)
    ids = np.where(made.instances > 0, labels * 1000 + made.instances - 1, labels)
    ids[labels == 33] = 33
    save(truth / f"{name}_gtFine_labelIds.png", labels)
    save(truth / f"{name}_gtFine_instanceIds.png", (ids * (split != "test")).astype(np.uint16))
    polygons = {"imgHeight": 48, "imgWidth": 96, "objects": []}
    (truth / f"{name}_gtFine_polygons.json").write_text(json.dumps(polygons))
