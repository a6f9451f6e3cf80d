"""Raw folders of a few small images, in the layout each dataset asks its user for."""

from pathlib import Path

import numpy as np
from PIL import Image

SMALL_OPTIONS = {"digit_scenes": {"train": 5, "val": 3, "test": 2}}
"""Options that keep generated datasets small."""

PENNFUDAN_STEMS = tuple(f"FudanPed{number:05d}" for number in range(1, 9))


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3))


def raw_camvid(folder: Path) -> None:
    """3 + 2 + 2 images of 40x30; every class and void occur in train."""
    rng = np.random.default_rng(1)
    for split, count in {"train": 3, "val": 2, "test": 2}.items():
        for number in range(count):
            stem = f"0001TP_{split}_{number:03d}"
            save(folder / split / f"{stem}.png", photograph(rng, 30, 40))
            save(folder / f"{split}annot" / f"{stem}.png", rng.integers(0, 12, (30, 40)))


def raw_pennfudan(folder: Path, images: str = "PNGImages", masks: str = "PedMasks") -> None:
    """8 images of 50x40 with 1 to 3 people, whose numbers have gaps."""
    rng = np.random.default_rng(2)
    for stem in PENNFUDAN_STEMS:
        numbers = np.zeros((40, 50))
        for person in range(int(rng.integers(1, 4))):
            top, left = rng.integers(0, 20), 16 * person + rng.integers(0, 3)
            numbers[top : top + 15, left : left + 10] = 2 * person + 1
        save(folder / images / f"{stem}.png", photograph(rng, 40, 50))
        save(folder / masks / f"{stem}_mask.png", numbers)


def build_raw(name: str, folder: Path) -> Path | None:
    """Build the raw folder of a dataset; None for one that is generated."""
    from segbench.datasets import dataset_info

    if not dataset_info(name).layout:
        return None
    builder = globals().get(f"raw_{name}")
    assert builder, f"add raw_{name} to {__file__}: a few tiny images in the dataset's layout"
    builder(folder)
    return folder
