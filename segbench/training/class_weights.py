"""Weights of classes from how often they occur in the training split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ENET_OFFSET = 1.02
"""Bounds the weights by 1 / ln 1.02 = 50.5 for a class of no pixels and 1.42 for all of them."""


def median_frequency(pixels: Sequence[int], area: Sequence[int]) -> list[float]:
    """Return median(frequency) / frequency of each class; 1 for a class that never occurs.

    Eigen and Fergus, ICCV 2015, as SegNet (TPAMI 2017) uses it: a frequency is the class's
    pixels over those of the images it occurs in, void included.

    Args:
        pixels: Pixels of each class.
        area: Pixels of all images that show the class.
    """
    occurs = np.asarray(pixels) > 0
    if not occurs.any():
        return [1.0] * len(pixels)
    frequency = np.asarray(pixels, dtype=np.float64) / np.maximum(area, 1)
    median = np.median(frequency[occurs])
    return [float(median / f) if shown else 1.0 for f, shown in zip(frequency, occurs, strict=True)]


def enet(pixels: Sequence[int]) -> list[float]:
    """Return 1 / ln(1.02 + p), p the class's share of the labelled pixels.

    Paszke et al., "ENet", arXiv 1606.02147.
    """
    share = np.asarray(pixels, dtype=np.float64) / max(sum(pixels), 1)
    return [float(weight) for weight in 1 / np.log(ENET_OFFSET + share)]


def power(pixels: Sequence[int], exponent: float) -> list[float]:
    """Return (largest frequency / frequency) ** exponent; 1 for a class that never occurs."""
    most = max(pixels)
    return [(most / n) ** exponent if n else 1.0 for n in pixels]
