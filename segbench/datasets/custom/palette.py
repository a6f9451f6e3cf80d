"""Colours for classes that have none: far apart, also for readers who confuse red and green.

The first are the eight-colour set of Okabe and Ito without black. Each further one is the
colour of a grid whose smallest distance to those before it is largest, measured in OKLab
(Ottosson 2020) as it is and as protanopes and deuteranopes see it (Machado, Oliveira,
Fernandes 2009, full severity).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from segbench.core.types import FloatArray

Rgb = tuple[int, int, int]

FIRST: tuple[Rgb, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167),
    (86, 180, 233), (213, 94, 0), (240, 228, 66),
)  # fmt: skip
GRID = tuple(range(20, 256, 21))
LIGHTNESS = (0.3, 0.95)
"""Neither the black of outlines nor the white of paper."""
SIGHT = (
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
)
"""What is seen of linear red, green and blue: by most, by protanopes, by deuteranopes."""


def colors_for(given: Sequence[Rgb | None]) -> tuple[Rgb, ...]:
    """Return a colour for each class: its own where it has one, else one unlike the others."""
    return _colors_for(tuple(given))


@cache
def _colors_for(given: tuple[Rgb | None, ...]) -> tuple[Rgb, ...]:
    missing = sum(color is None for color in given)
    new = iter(_unlike([color for color in given if color is not None], missing))
    return tuple(next(new) if color is None else color for color in given)


def _unlike(taken: Sequence[Rgb], count: int) -> list[Rgb]:
    if not taken and count <= len(FIRST):
        return list(FIRST[:count])
    start = [] if taken else list(FIRST)
    candidates = [(r, g, b) for r in GRID for g in GRID for b in GRID]
    seen = _seen(candidates)
    usable = (seen[0, :, 0] > LIGHTNESS[0]) & (seen[0, :, 0] < LIGHTNESS[1])
    distance = np.where(usable, np.inf, -1.0)
    chosen = list(start)
    for color in (*taken, *start):
        distance = np.minimum(distance, _distance(seen, _seen([color])))
    while len(chosen) < count:
        best = int(distance.argmax())
        chosen.append(candidates[best])
        distance = np.minimum(distance, _distance(seen, seen[:, best : best + 1]))
    return chosen[:count]


def _distance(seen: FloatArray, color: FloatArray) -> FloatArray:
    """Return the smallest distance of each candidate to a colour over the kinds of sight."""
    apart: FloatArray = np.linalg.norm(seen - color, axis=2).min(axis=0)
    return apart


def _seen(colors: Sequence[Rgb]) -> FloatArray:
    """Return OKLab [kind of sight, colour, 3] of sRGB colours."""
    srgb = np.asarray(colors, dtype=np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.stack([_oklab(np.clip(linear @ np.array(rows).T, 0, 1)) for rows in SIGHT])


def _oklab(linear: FloatArray) -> FloatArray:
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponents = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    found: FloatArray = np.cbrt(linear @ cones.T) @ opponents.T
    return found
