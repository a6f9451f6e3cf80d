"""Colour, texture, place, form and surroundings of the regions of an image, as numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color, feature

from segbench.layers.regions import Image, Labels, color_gradient, touching

Floats = NDArray[np.float64]

ORIENTATIONS = 8
PATTERNS = 10
"""Uniform local binary patterns of eight neighbours."""
GRID = 8
"""Cells a side of a region's form."""
NUM_FEATURES = 7 + ORIENTATIONS + PATTERNS + 3 + 6 + 7 + GRID * GRID


def region_features(image: Image, labels: Labels) -> NDArray[np.float32]:
    """Return one row of ``NUM_FEATURES`` numbers a region.

    Args:
        image: Float [H, W, 3] in [0, 1].
        labels: Regions [H, W], numbered from 0 without gaps.
    """
    lab = color.rgb2lab(image)
    area = np.bincount(labels.ravel()).astype(np.float64)
    appearance = _appearance(lab, labels, area)
    neighbours, border = _surroundings(appearance, labels)
    parts = [
        appearance,
        _orientations(lab[..., 0], labels, area),
        _patterns(lab[..., 0], labels, area),
        _place(labels, area),
        _extent(labels, area, border),
        neighbours,
        _form(labels, area),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _means(values: Floats, labels: Labels, area: Floats) -> Floats:
    """Return means [R, K] of values [H, W, K] over each region."""
    flat = values.reshape(-1, values.shape[-1])
    sums = [np.bincount(labels.ravel(), channel, len(area)) for channel in flat.T]
    return np.stack(sums, axis=1) / area[:, None]


def _histograms(bins: Labels, number: int, labels: Labels, weights: Floats | None) -> Floats:
    """Return sums [R, number] of weights (or counts) of each bin of [H, W] in each region."""
    regions = int(labels.max()) + 1
    places = (labels * number + bins).ravel()
    weights = None if weights is None else weights.ravel()
    sums = np.bincount(places, weights, regions * number).astype(np.float64)
    return sums.reshape(regions, number)


def _appearance(lab: Image, labels: Labels, area: Floats) -> Floats:
    """Mean and spread of the colour, mean gradient: [R, 7]."""
    means = _means(np.concatenate([lab, lab**2], axis=-1), labels, area)
    spread = np.sqrt(np.maximum(means[:, 3:] - means[:, :3] ** 2, 0))
    slope = _means(color_gradient(lab)[..., None], labels, area)
    return np.concatenate([means[:, :3], spread, slope], axis=1)


def _orientations(light: Floats, labels: Labels, area: Floats) -> Floats:
    """Gradient of lightness by direction, opposite ones alike: [R, ORIENTATIONS]."""
    down, right = (ndimage.sobel(light, axis=axis, mode="nearest") / 8 for axis in (0, 1))
    angle = np.arctan2(down, right) % np.pi / np.pi
    bins = (angle * ORIENTATIONS).astype(np.int64) % ORIENTATIONS
    return _histograms(bins, ORIENTATIONS, labels, np.hypot(down, right)) / area[:, None]


def _patterns(light: Floats, labels: Labels, area: Floats) -> Floats:
    """Fraction of each local binary pattern of lightness: [R, PATTERNS]."""
    levels = (light * 2.55).clip(0, 255).astype(np.uint8)
    codes = feature.local_binary_pattern(levels, 8, 1, "uniform").astype(np.int64)
    return _histograms(codes, PATTERNS, labels, None) / area[:, None]


def _place(labels: Labels, area: Floats) -> Floats:
    """Centre in [-1/2, 1/2] by row and column, the row's square too: [R, 3]."""
    height, width = labels.shape
    down, right = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    centre = _means(np.stack([down, right], axis=-1).astype(np.float64), labels, area)
    row, column = (centre[:, 0] + 0.5) / height - 0.5, (centre[:, 1] + 0.5) / width - 0.5
    return np.stack([row, column, row**2], axis=1)


def _extent(labels: Labels, area: Floats, border: Floats) -> Floats:
    """Size, relative height and width, filling of the box, its form, raggedness: [R, 6]."""
    (top, bottom), (left, right) = _boxes(labels)
    high, wide = bottom - top + 1, right - left + 1
    height, width = labels.shape
    columns = (
        np.log(area / labels.size),
        high / height,
        wide / width,
        area / (high * wide),
        np.log(high / wide),
        border / np.sqrt(area),
    )
    return np.stack(columns, axis=1)


def _boxes(labels: Labels) -> tuple[tuple[Labels, Labels], tuple[Labels, Labels]]:
    """Return first and last row, first and last column of each region, each [R]."""
    found = ndimage.find_objects(labels + 1)
    rows, columns = (
        (np.array([box[axis].start for box in found]), np.array([b[axis].stop for b in found]) - 1)
        for axis in (0, 1)
    )
    return rows, columns


def _surroundings(appearance: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Return how the neighbours differ in appearance [R, 7], by shared border, and borders [R]."""
    pairs = touching(labels)
    own, other = np.concatenate([pairs, pairs[::-1]], axis=1)
    regions = len(appearance)
    border = np.bincount(own, minlength=regions).astype(np.float64)
    difference = (appearance[other] - appearance[own]).T
    sums = np.stack([np.bincount(own, values, regions) for values in difference], axis=1)
    return sums / np.maximum(border, 1)[:, None], border


def _form(labels: Labels, area: Floats) -> Floats:
    """Filling of each cell of a square grid round the box, upright: [R, GRID * GRID]."""
    boxes = _boxes(labels)
    side = np.maximum(*(last - first + 1 for first, last in boxes))
    cells = []
    for axis, (first, last) in zip(np.indices(labels.shape), boxes, strict=True):
        from_centre = (axis - ((first + last) / 2)[labels]) / side[labels]
        cells.append(np.floor((from_centre + 0.5) * GRID).clip(0, GRID - 1).astype(np.int64))
    filled: Floats = _histograms(cells[0] * GRID + cells[1], GRID * GRID, labels, None)
    filled /= np.maximum((side / GRID) ** 2, 1)[:, None]
    return filled
