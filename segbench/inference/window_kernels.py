"""The truncated, sampled Gaussian sum of the dense CRF, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from segbench.core.jit import compiled
from segbench.core.types import FloatArray

NEGLIGIBLE = 20.0
"""Squared distance in standard deviations from which on a weight (5e-5) is taken for 0."""


@compiled
def window_sum(
    features: FloatArray, values: FloatArray, reach: Any, step: Any, out: FloatArray
) -> None:
    """Add to each pixel the weighted values of the sample pixels within reach.

    Args:
        features: [H, W, D] in standard deviations.
        values: [H * W, C].
        reach: Largest distance on each axis in pixels.
        step: Every so many pixels of an axis one is a sample, which stands for step * step.
        out: Added to, [H * W, C].
    """
    height, width, dims = features.shape
    area = step * step
    for y in range(height):
        for x in range(width):
            to = out[y * width + x]
            first = _first(y - reach, step)
            for row in range(first, min(y + reach + 1, height), step):
                for column in range(_first(x - reach, step), min(x + reach + 1, width), step):
                    square = 0.0
                    for d in range(dims):
                        apart = features[y, x, d] - features[row, column, d]
                        square += apart * apart
                    if square < NEGLIGIBLE:
                        weight = np.float32(area * np.exp(-0.5 * square))
                        value = values[row * width + column]
                        for c in range(len(to)):
                            to[c] += weight * value[c]


@compiled
def _first(least: Any, step: Any) -> Any:
    """Return the first sample at or after ``least``: step // 2, then every ``step`` pixels."""
    start = step // 2
    if least <= start:
        return start
    return start + (least - start + step - 1) // step * step
