"""Mapillary Vistas 1.2: configuration, photographs, palette label maps, 16-bit instances."""

import json
from pathlib import Path

import numpy as np

from segbench.datasets.classes.mapillary import KEYS
from tests.datasets.miniatures.scenes import save, save_palette, scene

THINGS, STUFF = (19, 55, 55), (13, 17, 65)
"""Labels: persons and cars; road, building and unlabeled."""


def scenes():
    """Yield split folder, stem and scene: 4 of training, 2 of validation."""
    for folder, count in (("training", 4), ("validation", 2)):
        for number in range(count):
            made = scene(number + 7 * count, 48, 64, things=THINGS, stuff=STUFF, void=65)
            yield folder, f"{folder[0]}Vistas_{number:04d}-x", made


def config(version: str) -> str:
    """Return the text of a configuration file."""
    names = [*KEYS[version], "void--unlabeled"]
    labels = [{"name": n, "readable": n, "evaluate": True, "instances": False} for n in names]
    return json.dumps({"labels": labels, "version": version, "mapping": "public"})


def build(folder: Path) -> None:
    """Write the archive in the form of 1.2, where truth lies beside the images."""
    top = folder / "mapillary-vistas-dataset_public_v1.2.zip"
    for split, stem, made in scenes():
        save(top / split / "images" / f"{stem}.jpg", made.image, quality=95)
        save_palette(top / split / "labels" / f"{stem}.png", made.labels)
        numbers = (made.labels * 256 + np.maximum(made.instances - 1, 0)).astype(np.uint16)
        save(top / split / "instances" / f"{stem}.png", numbers)
    (top / "config.json").write_text(config("v1.2"))
    (top / "README").write_text("Mapillary Vistas\n")
