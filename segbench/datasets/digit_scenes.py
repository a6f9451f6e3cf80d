"""Scenes of real handwritten digits on real photographed textures, composed when prepared.

The digits are scikit-learn's 1,797 scans of 8x8 pixels (things, ten classes), the ground is
made of four photographs that scikit-image ships (stuff). Nothing is downloaded. Every pixel
belongs to one class, so semantic, instance and panoptic truth are exact and without void.

A scene depends on (seed, split, index) alone, never on how many are made. Train, val and
test share no digit and no texture pixel.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core.errors import ConfigError
from segbench.core.types import BoolArray, Category, DatasetInfo, IntArray
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    compose_panoptic,
    instances_from_masks,
)

Pixels = NDArray[np.float32]

DIGITS_OF = {"train": (0, 1200), "val": (1200, 1500), "test": (1500, 1797)}
"""Numbers of the digits (in scikit-learn's order) each split draws from, end exclusive."""
TEXTURE_OF = {
    "train": (slice(0, 256), slice(0, 512)),
    "val": (slice(256, 512), slice(0, 256)),
    "test": (slice(256, 512), slice(256, 512)),
}
"""Rows and columns of each 512x512 texture a split may show."""
INK_THRESHOLD = 0.25
"""A pixel belongs to a digit where its ink exceeds this fraction of full ink."""
SOFT_EDGE = 0.10
"""Ink on either side of the threshold over which a stroke fades, so edges are not hard."""
TINT = 0.12
NOISE = 0.02
OPACITY = (0.85, 1.0)
REGIONS = (2, 4)
PLACE_TRIES = 40
SCENE_TRIES = 50

_STUFF = ("brick", "grass", "gravel", "tissue")
_COLORS = (
    (102, 170, 255), (238, 136, 34), (153, 255, 0), (238, 34, 68), (170, 68, 255),
    (221, 221, 119), (221, 136, 170), (68, 238, 255), (238, 34, 187), (68, 255, 187),
    (85, 34, 34), (68, 85, 0), (0, 85, 102), (51, 51, 119),
)  # fmt: skip
"""Bright digits on dark ground, found by search: every two colours are at least 20 CIELAB
units apart also for deuteranopes and protanopes."""


@dataclass(frozen=True)
class SceneOptions:
    """Options of ``prepare``; sizes are in pixels, counts in scenes, angles in degrees."""

    size: int = 96
    train: int = 800
    val: int = 120
    test: int = 0
    seed: int = 0
    min_digits: int = 3
    max_digits: int = 5
    min_digit_size: int = 26
    """Side of the square a digit is drawn in; its ink fills about 0.8 of it."""
    max_digit_size: int = 36
    max_occlusion: float = 0.15
    """Largest fraction of a digit's ink that later digits may hide."""
    rotation: float = 8.0
    """Digits are turned by up to this angle either way."""

    def check(self) -> None:
        """Refuse values that make no scene.

        Raises:
            ConfigError: Naming the option, its value and what it may be.
        """
        bounds = {
            "size": (16, 2048), "train": (0, 10**7), "val": (0, 10**7), "test": (0, 10**7),
            "seed": (0, 2**63), "min_digits": (1, self.max_digits), "max_digits": (1, 200),
            "min_digit_size": (8, self.max_digit_size), "max_digit_size": (8, self.size),
            "max_occlusion": (0, 0.9), "rotation": (0, 180),
        }  # fmt: skip
        wrong = [
            f"dataset 'digit_scenes', option '{name}': expected {low} to {high}, "
            f"found {getattr(self, name)}"
            for name, (low, high) in bounds.items()
            if not low <= getattr(self, name) <= high
        ]
        if wrong:
            raise ConfigError("\n".join(wrong))


INFO = DatasetInfo(
    name="digit_scenes",
    display_name="Digit scenes",
    description=(
        "Handwritten digits (things) on photographed textures (stuff), composed from data "
        "that scikit-learn and scikit-image ship; exact truth for all three tasks."
    ),
    categories=tuple(
        Category(
            id=number + 1,
            name=name,
            isthing=number < 10,
            color=_COLORS[number],
            supercategory="digit" if number < 10 else "texture",
        )
        for number, name in enumerate((*(f"digit_{d}" for d in range(10)), *_STUFF))
    ),
    tasks=("semantic", "instance", "panoptic"),
    splits={"train": None, "val": None, "test": None},
    protocols={
        "semantic": "digit-scenes-14",
        "instance": "coco-instances",
        "panoptic": "coco-panoptic",
    },
    licence="digits: CC BY 4.0 (UCI machine learning repository); brick, grass, gravel: CC0; "
    "immunohistochemistry: no known copyright restrictions (as scikit-image states)",
    citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998; "
    "van der Walt et al., scikit-image: image processing in Python, PeerJ 2014",
    homepage="https://scikit-image.org",
    options=asdict(SceneOptions()),
)


def check_options(options: Mapping[str, Any]) -> SceneOptions:
    """Return the options as a whole; ``ConfigError`` for values that make no scene."""
    scene_options = SceneOptions(**{f.name: options[f.name] for f in fields(SceneOptions)})
    scene_options.check()
    return scene_options


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the scenes of every split; ``ConfigError`` for values that make no scene."""
    del raw
    scene_options = check_options(options)
    return {
        split: [
            SourceImage(
                stem=f"{split}_{index:06d}",
                load=partial(compose_scene, scene_options, split=split, index=index),
            )
            for index in range(getattr(scene_options, split))
        ]
        for split in DIGITS_OF
    }


def compose_scene(options: SceneOptions, *, split: str, index: int) -> RawImage:
    """Return one scene with its ground truth: the same bits for the same arguments.

    Raises:
        ConfigError: The digits do not fit into the scene.
    """
    rng = np.random.default_rng([options.seed, list(DIGITS_OF).index(split), index])
    ground, semantic = _ground(rng, options.size, split=split)
    digits = _place_digits(rng, options, split=split)
    owner = np.zeros(semantic.shape, dtype=np.int16)
    for number, digit in enumerate(digits, start=1):
        _paint(ground, digit)
        owner[digit.window][digit.mask] = number
    masks = owner == np.arange(1, len(digits) + 1)[:, None, None]
    for digit, mask in zip(digits, masks, strict=True):
        semantic[mask] = digit.label
    ground += NOISE * rng.standard_normal(ground.shape, dtype=np.float32)
    image = (np.clip(ground, 0, 1) * 255 + 0.5).astype(np.uint8)
    instances = instances_from_masks(masks, [digit.label for digit in digits])
    return RawImage(
        image=image,
        size=(options.size, options.size),
        semantic=semantic,
        instances=instances,
        panoptic=compose_panoptic(semantic, instances, table=INFO.table),
    )


def _ground(rng: np.random.Generator, size: int, *, split: str) -> tuple[Pixels, IntArray]:
    """Return the textured ground [size, size, 3] in [0, 1] and its uint8 train ids."""
    count = int(rng.integers(REGIONS[0], REGIONS[1] + 1))
    kinds = rng.permutation(len(_STUFF))[:count]
    sites = rng.uniform(0, size, (count, 2, 1, 1))
    rows, columns = np.ogrid[:size, :size]
    nearest = np.argmin((rows - sites[:, 0]) ** 2 + (columns - sites[:, 1]) ** 2, axis=0)
    ground = np.empty((size, size, 3), dtype=np.float32)
    for region, kind in enumerate(kinds):
        crop = _crop(rng, _textures()[kind][TEXTURE_OF[split]], size=size)
        tint = rng.uniform(1 - TINT, 1 + TINT, 3).astype(np.float32)
        inside = nearest == region
        ground[inside] = crop[inside] * tint
    return ground, (10 + kinds[nearest]).astype(np.uint8)


def _crop(rng: np.random.Generator, texture: Pixels, *, size: int) -> Pixels:
    """Return a random square of a texture; one too small is mirrored at its edges."""
    starts = [int(rng.integers(0, max(side - size, 0) + 1)) for side in texture.shape[:2]]
    rows, columns = (
        _mirror(np.arange(start, start + size), side)
        for start, side in zip(starts, texture.shape[:2], strict=True)
    )
    return texture[rows[:, None], columns]


def _mirror(index: IntArray, side: int) -> IntArray:
    folded = index % (2 * side)
    return np.where(folded < side, folded, 2 * side - 1 - folded)


@dataclass(frozen=True)
class _Digit:
    """A digit in the square it is drawn in; ``ink`` is a fraction of full ink."""

    label: int
    ink: Pixels
    color: Pixels
    opacity: float
    window: tuple[slice, slice]

    @property
    def mask(self) -> BoolArray:
        return self.ink > INK_THRESHOLD


def _place_digits(rng: np.random.Generator, options: SceneOptions, *, split: str) -> list[_Digit]:
    """Return digits from the bottom up, at least ``min_digits`` and as many as drawn fit."""
    for _ in range(SCENE_TRIES):
        wanted = int(rng.integers(options.min_digits, options.max_digits + 1))
        digits: list[_Digit] = []
        owner = np.zeros((options.size, options.size), dtype=np.int16)
        areas: list[int] = []
        while len(digits) < wanted:
            digit = _try_place(rng, options, split=split, owner=owner, areas=areas)
            if digit is None:
                break
            owner[digit.window][digit.mask] = len(digits) + 1
            areas.append(int(digit.mask.sum()))
            digits.append(digit)
        if len(digits) >= options.min_digits:
            return digits
    raise ConfigError(
        f"dataset 'digit_scenes': {options.min_digits} digits of {options.min_digit_size} to "
        f"{options.max_digit_size} pixels do not fit into {options.size} pixels",
        fix="fewer or smaller digits, a larger size or more max_occlusion",
    )


def _try_place(
    rng: np.random.Generator,
    options: SceneOptions,
    *,
    split: str,
    owner: IntArray,
    areas: Sequence[int],
) -> _Digit | None:
    """Return one more digit where it hides no earlier one too much, or None."""
    label, ink = _draw(rng, options, split=split)
    color, opacity = _bright_color(rng), float(rng.uniform(*OPACITY))
    full = np.array([0, *areas])
    visible = np.bincount(owner.ravel(), minlength=len(full))
    for _ in range(PLACE_TRIES):
        top, left = rng.integers(0, options.size - len(ink) + 1, 2)
        window = (slice(top, top + len(ink)), slice(left, left + len(ink)))
        digit = _Digit(label, ink, color, opacity, window)
        hidden = np.bincount(owner[window][digit.mask], minlength=len(full))
        left_over = visible - hidden
        if (left_over[1:] >= (1 - options.max_occlusion) * full[1:]).all():
            return digit
    return None


def _draw(rng: np.random.Generator, options: SceneOptions, *, split: str) -> tuple[int, Pixels]:
    """Return the class and the ink [side, side] of a random digit, enlarged and turned."""
    from scipy import ndimage

    images, labels = _digits()
    number = int(rng.integers(*DIGITS_OF[split]))
    side = int(rng.integers(options.min_digit_size, options.max_digit_size + 1))
    angle = np.deg2rad(rng.uniform(-options.rotation, options.rotation))
    scale = images.shape[1] / side
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    centre = (images.shape[1] - 1) / 2 - turn @ np.full(2, (side - 1) / 2)
    ink = ndimage.affine_transform(
        images[number], turn, offset=centre, output_shape=(side, side), order=3
    )
    return int(labels[number]), ink


def _bright_color(rng: np.random.Generator) -> Pixels:
    """Return a random bright colour; it says nothing of the class."""
    hue, saturation, value = rng.uniform((0.0, 0.5, 0.8), (1.0, 1.0, 1.0))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _paint(ground: Pixels, digit: _Digit) -> None:
    """Blend a digit into the ground in place; coverage is one half at the ink threshold."""
    cover = np.clip((digit.ink - INK_THRESHOLD + SOFT_EDGE) / (2 * SOFT_EDGE), 0, 1)
    cover = (digit.opacity * cover)[..., None]
    ground[digit.window] += cover * (digit.color - ground[digit.window])


@cache
def _digits() -> tuple[Pixels, IntArray]:
    """Return the digits [1797, 10, 10] in [0, 1], one empty pixel around, and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.pad(data.images / 16, ((0, 0), (1, 1), (1, 1))).astype(np.float32)
    return images, data.target


@cache
def _textures() -> tuple[Pixels, ...]:
    """Return the four textures [512, 512, 1 or 3] in [0, 1], in the order of the stuff classes."""
    from skimage import data

    load: tuple[Any, ...] = (data.brick, data.grass, data.gravel, data.immunohistochemistry)
    return tuple((np.atleast_3d(picture()) / 255).astype(np.float32) for picture in load)
