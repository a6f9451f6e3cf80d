"""Weights of classes from how often they occur in the training split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segbench.core.errors import ConfigError
from segbench.core.progress import track
from segbench.formats.prepared import PreparedDataset
from segbench.formats.samples import SplitSamples
from segbench.training.recipe import Recipe

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


def class_weights_of(recipe: Recipe, dataset: PreparedDataset) -> list[float] | None:
    """Return the weight of each class that a recipe gives or asks to compute; None without.

    Raises:
        ConfigError: The recipe gives another number of weights than there are classes.
    """
    if recipe.class_weights is not None:
        if len(recipe.class_weights) != len(dataset.table):
            raise ConfigError(
                f"class_weights: expected {len(dataset.table)} numbers, one a class of "
                f"'{dataset.name}', found {len(recipe.class_weights)}"
            )
        return list(recipe.class_weights)
    if recipe.class_weight_power is not None:
        return power(_pixels(recipe, dataset), recipe.class_weight_power)
    if recipe.class_weighting == "enet":
        return enet(_pixels(recipe, dataset))
    if recipe.class_weighting == "median_frequency":
        return median_frequency(*_pixels_and_areas(recipe, dataset))
    return None


def _pixels(recipe: Recipe, dataset: PreparedDataset) -> list[int]:
    """Return how many pixels of the training split each class has."""
    histograms = dataset.description.get("class_histogram", {})
    histogram: list[int] = histograms.get(recipe.train_split, {}).get("pixels", [])
    if len(histogram) != len(dataset.table):
        raise ConfigError(
            f"{dataset.description_file} has no class_histogram of split '{recipe.train_split}', "
            "which class_weight_power and class_weighting need",
            fix="prepare the dataset again, or write class_weights into the recipe",
        )
    return histogram


def _pixels_and_areas(recipe: Recipe, dataset: PreparedDataset) -> tuple[list[int], list[int]]:
    """Return pixels of each class, and pixels of all images that show it; reads every map."""
    truth = SplitSamples(dataset, recipe.train_split, task="semantic")
    pixels, areas = np.zeros((2, len(dataset.table)), dtype=np.int64)
    for record in track(truth.records, len(truth.records), "class frequencies"):
        semantic = truth.sample(record).semantic
        if semantic is None:
            raise ConfigError("class_weighting needs a semantic truth", fix="remove it")
        counts = np.bincount(semantic.ravel(), minlength=len(pixels))[: len(pixels)]
        pixels += counts
        areas += np.where(counts > 0, semantic.size, 0)
    return pixels.tolist(), areas.tolist()
