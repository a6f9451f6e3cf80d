"""Small generated photographs with exact truth, the material of every miniature."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Scene:
    """``image`` uint8 [H, W, 3]; ``labels`` [H, W] holds the codes; ``instances`` [H, W] from 1."""

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    codes: tuple[int, ...]
    """Code of each instance, in the order of their numbers."""


def scene(seed: int, height: int, width: int, *, things=(), stuff=(), void: int | None = None):
    """Vertical stripes of every stuff code, a rectangle of every thing code, a void border.

    Things are drawn side by side, so that every one is whole; each code has a colour of its own
    with a little noise.
    """
    rng = np.random.default_rng(seed)
    stuff = tuple(stuff) or (0,)
    labels = np.asarray(stuff)[np.arange(width) * len(stuff) // width][None].repeat(height, 0)
    instances = np.zeros((height, width), dtype=np.int64)
    for number, code in enumerate(things, start=1):
        left = (number - 1) * width // len(things) + 1
        right = max(left + 1, number * width // len(things) - 1)
        top = int(rng.integers(1, max(2, height // 3)))
        labels[top : height - 2, left:right] = code
        instances[top : height - 2, left:right] = number
    if void is not None:
        labels[-1], instances[-1] = void, 0
    palette = np.random.default_rng(0).integers(0, 230, (65536, 3))
    image = palette[labels % 65536] + rng.integers(0, 25, (height, width, 3))
    return Scene(image.astype(np.uint8), labels, instances, tuple(things))


def save(path: Path, array: np.ndarray, **options) -> Path:
    """Write an array as the picture its suffix says; uint16 arrays become 16-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if array.dtype == np.uint16 else np.uint8
    Image.fromarray(array.astype(kind)).save(path, **options)
    return path


def save_palette(path: Path, labels: np.ndarray) -> Path:
    """Write label numbers as a palette PNG, as Pascal VOC and SBD do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("P", (labels.shape[1], labels.shape[0]))
    picture.putdata(labels.astype(np.uint8).ravel().tolist())
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
    picture.save(path)
    return path
