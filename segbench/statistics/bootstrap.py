"""The parts of a paired bootstrap that know nothing of scores: draws, and what an interval is.

Percentiles of few images are too narrow by the factor between normal and t quantiles; they
are taken that much further out (Hesterberg 2015, "expanded percentile"). BCa (Efron 1987)
also takes out bias and skew. A mean over classes, some of them on few images, has neither enough
spread in its draws nor its true bias: it is given a t interval around what is left without the
bias (``student``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from segbench.core.errors import DataError
from segbench.core.types import FloatArray

MIN_IMAGES = 10
"""Fewer images say too little of their own spread."""
MAX_JACKKNIFE = 500
"""Groups of images that are left out in turn, for the skew of BCa."""
JACKKNIFE = 0.75
"""Its share in the variance of a mean over classes; the rest is that of the draws."""


@lru_cache(maxsize=4)
def resample_weights(num_images: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """Return how often each image is drawn, uint16 [R, N]; the same for the same arguments.

    Raises:
        DataError: There are fewer than ``MIN_IMAGES`` images.
    """
    if num_images < MIN_IMAGES:
        raise DataError(
            f"{num_images} images are too few for an interval, {MIN_IMAGES} are needed",
            fix="score a larger split",
        )
    rng = np.random.default_rng([seed, num_images])
    weights = np.empty((resamples, num_images), dtype=np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(0, num_images, num_images), minlength=num_images)
    weights.flags.writeable = False
    return weights


def jackknife_weights(num_images: int) -> NDArray[np.uint8]:
    """Return weights [G, N] that leave out each image in turn, or a group where there are many."""
    groups = np.arange(num_images) % min(num_images, MAX_JACKKNIFE)
    weights: NDArray[np.uint8] = (groups != np.arange(groups.max() + 1)[:, None]).astype(np.uint8)
    return weights


@dataclass(frozen=True)
class Shape:
    """Which order statistics end an interval: of ``images`` images, with BCa's two numbers."""

    images: int
    bias: float = 0.0
    skew: float = 0.0

    def ends(
        self, ordered: FloatArray, level: float, lowest: float, highest: float
    ) -> tuple[float, float]:
        """Return the interval from sorted values, ends rounded outwards.

        An end beyond what so many resamples can show is ``lowest`` or ``highest``.
        """
        ordered = np.clip(ordered, lowest, highest)
        if ordered[0] == ordered[-1]:
            return float(ordered[0]), float(ordered[-1])
        quantiles = stdtrit(self.images - 1, np.array([(1 - level) / 2, (1 + level) / 2]))
        shifted = self.bias + quantiles * math.sqrt(self.images / (self.images - 1))
        shares = ndtr(self.bias + shifted / (1 - self.skew * shifted))
        ranks = np.round((len(ordered) + 1) * shares, 9)
        padded = np.concatenate([[lowest], ordered, [highest]])
        return float(padded[math.floor(ranks[0])]), float(padded[math.ceil(ranks[1])])

    def p_of_zero(self, values: FloatArray) -> float:
        """Return 1 - level of the widest interval that leaves out 0: undoes ``ends``."""
        number = len(values) + 1
        below = (1 + np.count_nonzero(values <= 0)) / number
        above = (1 + np.count_nonzero(values >= 0)) / number
        tails = self._tail(min(below, 1 - 1 / number)), 1 - self._tail(max(1 - above, 1 / number))
        return float(min(1.0, 2 * min(tails)))

    def _tail(self, share: float) -> float:
        shifted = ndtri(share) - self.bias
        quantile = shifted / max(1 + self.skew * shifted, 1e-6) - self.bias
        return float(tail_of(quantile, self.images))


def tail_of(quantile: float | FloatArray, images: int) -> FloatArray:
    """Return the probability below a normal quantile of resamples, widened for few images."""
    below: FloatArray = stdtr(images - 1, quantile * math.sqrt((images - 1) / images))
    return below


@dataclass(frozen=True)
class Percentiles:
    """Sorted draws and which of them end an interval."""

    ordered: FloatArray
    shape: Shape

    def ends(self, level: float, lowest: float, highest: float) -> tuple[float, float]:
        """Return the interval of a level, within bounds."""
        return self.shape.ends(self.ordered, level, lowest, highest)

    def p_of_zero(self) -> float:
        """Return 1 - level of the widest interval that leaves out 0."""
        return self.shape.p_of_zero(self.ordered)


@dataclass(frozen=True)
class Student:
    """A t distribution around ``centre``."""

    centre: float
    spread: float
    freedom: float

    def ends(self, level: float, lowest: float, highest: float) -> tuple[float, float]:
        """Return the interval of a level, within bounds."""
        half = -float(stdtrit(self.freedom, (1 - level) / 2)) * self.spread
        low, high = np.clip([self.centre - half, self.centre + half], lowest, highest).tolist()
        return low, high

    def p_of_zero(self) -> float:
        """Return 1 - level of the widest interval that leaves out 0."""
        if self.spread == 0:
            return float(self.centre == 0)
        return float(2 * stdtr(self.freedom, -abs(self.centre) / self.spread))


def student(values: FloatArray, centre: float, left_out: FloatArray, variance: float) -> Student:
    """Return how an estimate without its bias scatters.

    Draws say too little: what is on one image only is the same in all draws that have it. The
    jackknife says a little too much, and the right value is nearer to it (decision 0013). Degrees
    of freedom are those of its variance, to which a few images may have given nearly all
    (Satterthwaite).

    Args:
        values: [R], the score of each draw.
        centre: The score without its bias.
        left_out: [G], the same without each image, or group of images.
        variance: Of the bias.
    """
    known = left_out[~np.isnan(left_out)]
    if len(known) < 2:
        return Student(centre, math.sqrt(float(values.var()) + variance), 1.0)
    squares = (known - known.mean()) ** 2
    jackknife = float(squares.sum()) * (len(known) - 1) / len(known)
    freedom = float(len(known) - 1)
    if squares.any():
        peak = float((squares**2).mean() / squares.mean() ** 2)
        freedom = min(freedom, 2 * len(known) / max(peak - 1, 1e-9))
    spread = (1 - JACKKNIFE) * float(values.var()) + JACKKNIFE * jackknife + variance
    return Student(centre, math.sqrt(spread), freedom)


def shape_of(values: FloatArray, estimate: float, left_out: FloatArray, images: int) -> Shape:
    """Return BCa's bias and skew (Efron 1987); none without left-out scores or any spread."""
    left_out = left_out[~np.isnan(left_out)]
    if not len(left_out) or values.min() == values.max():
        return Shape(images)
    number = len(values)
    below = np.count_nonzero(values < estimate) + 0.5 * np.count_nonzero(values == estimate)
    share = min(max(below / number, 1 / (number + 1)), number / (number + 1))
    deviation = left_out.mean() - left_out
    spread = float((deviation**2).sum()) ** 1.5
    skew = float((deviation**3).sum()) / (6 * spread) if spread else 0.0
    return Shape(images, float(ndtri(share)), skew)
