"""What few images of a class do to a mean over classes, seen on its classes of many images.

The score of a class on few images is biased: AP is too high (a best precision is a maximum of
what scatters), IoU or PQ is 0 where a class is predicted but on none of the images. No bootstrap
sees that, because copies of an image are no new images. But leave out images at random, half of
them, three quarters and so on: classes on many images become classes on few, and show how far their
scores move. R rows of weights, N images, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from segbench.core.types import BoolArray, FloatArray, IntArray
from segbench.evaluation.ratios import ClassMean

MANY = 10
"""Images of a class that can show what few images do."""
HALVINGS = 7
REPEATS = 40
_SEED = 20


@dataclass(frozen=True)
class Bias:
    """How far few images move a class: ``slope`` x images^-``decay``, ``absent`` on none.

    ``slope_scatter``, ``absent_scatter`` [C]: how far each class pulls the two, whose variances
    are the sums of squares.
    """

    decay: float
    slope: float
    slope_scatter: FloatArray
    absent: float
    absent_scatter: FloatArray

    def of_mean(self, values: FloatArray, images: FloatArray) -> FloatArray:
        """Return the bias [R] of the mean over the classes with a value.

        Args:
            values: [R, C], NaN where a class has none.
            images: [R, C], images that show each class.
        """
        fading, gone = self._shares(values, images)
        return fading * self.slope + gone * self.absent

    def scatter(self, values: FloatArray, images: FloatArray) -> FloatArray:
        """Return how far each class pulls ``of_mean`` [R, C]; squares sum to its variance."""
        fading, gone = self._shares(values, images)
        return fading[:, None] * self.slope_scatter + gone[:, None] * self.absent_scatter

    def _shares(self, values: FloatArray, images: FloatArray) -> tuple[FloatArray, FloatArray]:
        known = ~np.isnan(values)
        number = np.maximum(known.sum(axis=1), 1)
        fading = (known * _faded(images, self.decay)).sum(axis=1) / number
        return fading, (known & (images == 0)).sum(axis=1) / number


def refusal(score: ClassMean) -> str | None:
    """Say why a score has too few images a class for an interval; None where it has not."""
    images = score.shown.sum(axis=0)
    classes = int(np.count_nonzero(images))
    if score.absent and classes < len(images):
        return f"{len(images) - classes} of {len(images)} classes are on no image"
    found = int(np.count_nonzero(images >= MANY))
    if found >= _needed(classes):
        return None
    return (
        f"too few images a class: {found} of {classes} classes are on {MANY} images or more, "
        f"{_needed(classes)} are needed"
    )


def _needed(classes: int) -> int:
    """Return how many classes have to be on many images: a quarter, and four or all.

    Found by simulation (decision 0013).
    """
    return max(min(4, classes), math.ceil(classes / 4), 1)


def fit_bias(score: ClassMean) -> Bias:
    """Return the bias of the classes of a score, for which ``refusal`` found nothing."""
    images = score.shown.sum(axis=0)
    weights = _thinned(len(score.shown))
    left = (weights @ score.shown).astype(np.int64)
    change = score.values(weights) - score.values(np.ones((1, len(score.shown))))
    usable = ~np.isnan(change) & (images >= np.maximum(2 * left, MANY))
    step = _faded(left, score.decay) - _faded(images, score.decay)
    change = np.where(usable, change, 0.0)
    # A class on m images scatters by about 1 / sqrt(m): its weight is m.
    fading, gone = usable * left * step, (usable & (left == 0)).astype(np.float64)
    slope = _quotient((fading * change).sum(axis=0), (fading * step).sum(axis=0))
    absent = _quotient((gone * change).sum(axis=0), gone.sum(axis=0))
    return Bias(score.decay, *slope, *absent)


def _thinned(number: int) -> FloatArray:
    """Return weights [R, N] that keep half of the images, a quarter, and so on, some times each."""
    rng = np.random.default_rng([_SEED, number])
    kept = [number >> k for k in range(1, HALVINGS + 1) if number >> k >= 4]
    weights = np.zeros((len(kept) * REPEATS, number))
    for row, size in zip(weights, np.repeat(kept, REPEATS).tolist(), strict=True):
        row[rng.permutation(number)[:size]] = 1.0
    return weights


def _faded(images: FloatArray | IntArray, decay: float) -> FloatArray:
    """Return images^-decay; 0 of none."""
    faded: FloatArray = np.where(images > 0, np.maximum(images, 1.0) ** -decay, 0.0)
    return faded


def _quotient(parts: FloatArray, wholes: FloatArray) -> tuple[float, FloatArray]:
    """Return the sum of the parts over that of the wholes, and how far each class pulls it."""
    whole = float(wholes.sum())
    if whole == 0:
        return 0.0, np.zeros(len(parts))
    value = float(parts.sum()) / whole
    return value, (parts - value * wholes) / whole


def images_of(weights: FloatArray, shown: BoolArray) -> FloatArray:
    """Return how many images of weights [R, N] show each class [R, C]; copies are one image."""
    images: FloatArray = (weights > 0).astype(np.float64) @ shown
    return images
