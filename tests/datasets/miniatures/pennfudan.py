"""Penn-Fudan: 8 images of 50x40 with 1 to 3 people, whose numbers have gaps."""

from pathlib import Path

import numpy as np

from tests.datasets.miniatures.scenes import save, scene

STEMS = tuple(f"FudanPed{number:05d}" for number in range(1, 9))


def build(folder: Path) -> None:
    build_raw(folder / "raw")


def build_raw(folder: Path, images: str = "PNGImages", masks: str = "PedMasks") -> None:
    for seed, stem in enumerate(STEMS):
        made = scene(seed, 40, 50, things=(1,) * (1 + seed % 3))
        numbers = np.where(made.instances > 0, 2 * made.instances - 1, 0)
        save(folder / images / f"{stem}.png", made.image)
        save(folder / masks / f"{stem}_mask.png", numbers)
