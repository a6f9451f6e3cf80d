"""Random small Cityscapes scenes: label maps, instance numbers, masks with scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Mask = tuple[np.ndarray[Any, Any], int, float]
LABELS = (0, 3, 7, 11, 24, 25, 26, 26, 27, 28, 29, 30, 31, 32, 33)


def scene(rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return label ids uint8 and instance numbers uint16 of overlapping rectangles."""
    height, width = rng.integers(12, 40, 2)
    labels = np.full((height, width), rng.choice([0, 7, 23]), dtype=np.uint8)
    numbers = labels.astype(np.uint16)
    for _ in range(rng.integers(1, 9)):
        y, x = rng.integers(0, height), rng.integers(0, width)
        place = slice(y, y + rng.integers(1, height)), slice(x, x + rng.integers(1, width))
        label = int(rng.choice(LABELS))
        labels[place] = label
        single = label >= 24 and rng.random() < 0.8
        numbers[place] = label * 1000 + rng.integers(0, 4) if single else label
    return labels, numbers


def detections(rng: np.random.Generator, numbers: np.ndarray[Any, Any]) -> list[Mask]:
    """Return masks near the truth, each with a label id and a score; scores may be equal."""
    found: list[Mask] = []
    for _ in range(rng.integers(0, 8)):
        number = int(rng.choice(np.unique(numbers)))
        mask = numbers == number
        kind = rng.integers(0, 4)
        if kind == 0:
            mask = np.roll(mask, tuple(rng.integers(-3, 4, 2)), (0, 1))
        elif kind == 1:
            mask = mask & (rng.random(mask.shape) < 0.7)
        elif kind == 2:
            mask = mask | np.roll(mask, 2, 0)
        label = number // 1000 if number >= 1000 else number
        if label < 24 or rng.random() < 0.15:
            label = int(rng.choice([24, 26, 33, 7, 29]))
        found.append((mask, label, round(float(rng.random()), 1)))
    return found


def write_truth(folder: Path, stem: str, labels: Any, numbers: Any) -> None:
    """Write the truth of an image as Cityscapes does."""
    city = folder / stem.split("_")[0]
    city.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels)).save(city / f"{stem}_gtFine_labelIds.png")
    Image.fromarray(np.asarray(numbers)).save(city / f"{stem}_gtFine_instanceIds.png")


def write_masks(folder: Path, stem: str, found: list[Mask]) -> None:
    """Write the detections of an image as the official tool takes them."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    lines = []
    for i, (mask, label, score) in enumerate(found):
        name = f"masks/{stem}_{i}.png"
        Image.fromarray(mask.astype(np.uint8)).save(folder / name)
        lines.append(f"{name} {label} {score}\n")
    (folder / f"{stem}.txt").write_text("".join(lines))


def random_folder(root: Path, seed: int, *, images: int = 3) -> list[tuple[Any, list[Mask]]]:
    """Write ``gt`` and ``pred`` below a folder; return numbers and detections of each image."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(images):
        labels, numbers = scene(rng)
        found = detections(rng, numbers)
        write_truth(root / "gt", f"ulm_{i:06d}_000019", labels, numbers)
        write_masks(root / "pred", f"ulm_{i:06d}_000019", found)
        made.append((numbers, found))
    return made
