"""Means over classes of weighted images; axes as in ``segbench.evaluation.resampled``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segbench.core.types import BoolArray, FloatArray

Evaluate = Callable[[FloatArray], FloatArray]
"""Weights of images [R, N] to the score of each resample [R]."""


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotients; NaN where the denominator is 0."""
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def mean_known(values: FloatArray) -> FloatArray:
    """Return the mean of each row's known values; NaN where there are none."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))


@dataclass(frozen=True, eq=False)
class ClassMean:
    """A score that is the mean over the classes that have a value.

    ``values``: weights [R, N] to the score of each class [R, C], NaN where it has none.
    ``shown`` [N, C]: images whose truth holds a class. ``decay``: a class is biased by its images
    to the power -``decay``. ``absent``: a class that is nowhere has a value all the same.
    """

    values: Callable[[FloatArray], FloatArray]
    shown: BoolArray
    decay: float = 1.0
    absent: bool = False

    def __call__(self, weights: FloatArray) -> FloatArray:
        return mean_known(self.values(weights))
