"""Where a score lies for other images of the same kind, or the difference of two scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segbench.core.types import FloatArray
from segbench.evaluation.ratios import ClassMean, mean_known
from segbench.evaluation.resampled import Statistic
from segbench.statistics.bootstrap import Percentiles, Student, jackknife_weights, shape_of, student
from segbench.statistics.small_sample_bias import fit_bias, images_of, refusal

Method = Literal["percentile", "bca", "student"]
_ROWS = 256
"""Resamples evaluated at a time."""


def best_method(runs: Sequence[Statistic]) -> Method:
    """Return the method whose intervals hold the true score as often as stated (decision 0013).

    Of a mean over classes, some are on few images. Their draws are biased as the score itself is,
    by an unknown part of it: BCa may find none of them on one side of the score.
    """
    return "student" if all(isinstance(run.evaluate, ClassMean) for run in runs) else "bca"


def refusal_of(runs: Sequence[Statistic]) -> str | None:
    """Say why the scores have no interval; None where they have one."""
    found = (refusal(run.evaluate) for run in runs if isinstance(run.evaluate, ClassMean))
    return next((reason for reason in found if reason), None)


def interval_of(
    method: Method, values: FloatArray, estimate: float, sides: Sequence[Sequence[Statistic]]
) -> Percentiles | Student:
    """Return where a score lies, or the difference of the scores of two sides.

    Args:
        method: As for ``interval``.
        values: [R], of each draw.
        estimate: Of the images as they are.
        sides: Runs of one row, or of two.
    """
    images = len(sides[0][0].image_ids)
    left = jackknife_weights(images)
    if method == "student":
        found = [_unbiased(runs, left) for runs in sides]
        centre, left_out, scatter = found[0]
        if len(found) > 1:
            centre, left_out = centre - found[1][0], left_out - found[1][1]
            scatter = scatter - found[1][2]
        variance = float((scatter**2).sum())
        return student(values, centre, left_out, variance)
    left_outs = [mean_values(runs, left) if method == "bca" else np.zeros(0) for runs in sides]
    difference = left_outs[0] - left_outs[1] if len(sides) > 1 else left_outs[0]
    return Percentiles(np.sort(values), shape_of(values, estimate, difference, images))


def _unbiased(
    runs: Sequence[Statistic], left: NDArray[Any]
) -> tuple[float, FloatArray, FloatArray]:
    """Return means over runs: without bias, the same of weights, and how far classes pull it."""
    found = [
        _unbiased_run(run.evaluate, left) for run in runs if isinstance(run.evaluate, ClassMean)
    ]
    centres, left_outs, scatters = zip(*found, strict=True)
    return float(np.mean(centres)), np.mean(left_outs, axis=0), np.mean(scatters, axis=0)


def _unbiased_run(score: ClassMean, left: NDArray[Any]) -> tuple[float, FloatArray, FloatArray]:
    bias = fit_bias(score)
    once = np.ones((1, len(score.shown)))
    whole = score.values(once), images_of(once, score.shown)
    centre = float(mean_known(whole[0])[0] - bias.of_mean(*whole)[0])
    columns = []
    for start in range(0, len(left), _ROWS):
        weights = left[start : start + _ROWS].astype(np.float64)
        values, images = score.values(weights), images_of(weights, score.shown)
        columns.append(mean_known(values) - bias.of_mean(values, images))
    return centre, np.concatenate(columns), bias.scatter(*whole)[0]


def mean_values(runs: Sequence[Statistic], weights: NDArray[Any]) -> FloatArray:
    """Return the score of each resample [R], the mean over runs."""
    starts = range(0, len(weights), _ROWS)
    blocks = (weights[start : start + _ROWS].astype(np.float64) for start in starts)
    columns = [np.mean([run.evaluate(block) for run in runs], axis=0) for block in blocks]
    return np.concatenate(columns)
