"""Confidence intervals of one score, and its spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segbench.evaluation.protocol import Protocol
from segbench.evaluation.resampled import HEADLINE
from segbench.statistics.bootstrap import MIN_IMAGES, resample_weights
from segbench.statistics.draws import (
    LEVEL,
    RESAMPLES,
    SEED,
    Parts,
    Runs,
    affordable_resamples,
    check_level,
    statistics_of,
)
from segbench.statistics.interval_methods import (
    Method,
    best_method,
    interval_of,
    mean_values,
    refusal_of,
)


@dataclass(frozen=True)
class Interval:
    """A score and where it may lie for other images of the same kind.

    ``low`` and ``high`` are None where the score has no value, most resamples have none, or an
    interval would not hold the true score as often as it says; ``reason`` says which.
    ``resamples`` are those with a value.
    """

    low: float | None
    high: float | None
    estimate: float | None
    level: float
    method: Method
    resamples: int
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SeedSpread:
    """Mean and sample standard deviation over ``n`` training seeds; no ``sd`` of one."""

    mean: float | None
    sd: float | None
    n: int


def interval(
    counts: Runs,
    protocol: Protocol,
    metric: str,
    *,
    level: float = LEVEL,
    method: Method | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Return the bootstrap interval of one score.

    Args:
        counts: Counts of one run, or of several seeds (their mean is the score).
        protocol: How counts become scores.
        metric: See ``segbench.evaluation.resampled.statistic``.
        level: Share of intervals that hold the true score, in (0, 1).
        method: Default: ``best_method``. BCa corrects bias and skew of the plain percentiles;
            ``student``, for means over classes, takes out what few images of a class do, and
            always holds the score itself.
        resamples: How many times images are drawn.
        seed: Of the draws; runs to be compared need one seed.

    Raises:
        ConfigError: The metric or protocol does not fit, or the level is out of range.
        DataError: There are too few images.
    """
    runs = statistics_of(counts, protocol, metric)
    method = method or best_method(runs)
    weights = resample_weights(len(runs[0].image_ids), resamples, seed)
    check_level(level, resamples)
    estimate = float(np.mean([run.estimate for run in runs]))
    if math.isnan(estimate):
        return Interval(None, None, None, level, method, 0, "the score has no value")
    reason = refusal_of(runs) if method == "student" else None
    if reason:
        return Interval(None, None, estimate, level, method, 0, reason)
    values = mean_values(runs, weights)
    known = values[~np.isnan(values)]
    if 2 * len(known) < resamples:
        reason = "most resamples have no value"
        return Interval(None, None, estimate, level, method, len(known), reason)
    low, high = interval_of(method, known, estimate, [runs]).ends(level, 0.0, 1.0)
    if method == "student":  # the bias can be larger than the spread
        low, high = min(low, estimate), max(high, estimate)
    return Interval(low, high, estimate, level, method, len(known))


def headline_intervals(parts: Parts, protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return the interval of a task's headline score as a record holds it, by metric.

    Empty where there are too few images.
    """
    metric = HEADLINE[protocol.task]
    counts = next(iter(parts.values()))
    if len(counts.image_ids) < MIN_IMAGES:
        return {}
    found = interval(parts, protocol, metric, resamples=affordable_resamples(parts)).as_dict()
    kept = ["low", "high", "level", "method", "resamples"]
    if found["reason"]:
        kept.append("reason")
    return {metric: {key: found[key] for key in kept}}


def seed_spread(values: Sequence[float | None]) -> SeedSpread:
    """Return the spread of a score over training seeds; seeds without a value are left out."""
    known = [value for value in values if value is not None]
    if not known:
        return SeedSpread(None, None, 0)
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return SeedSpread(math.fsum(known) / len(known), sd, len(known))
