"""Is a difference real? Intervals and comparisons from stored counts, by a paired bootstrap.

Images are drawn with replacement, as many as there are; the score of each draw is the
protocol's score of those images (``segbench.evaluation.resampled``). All runs on one set of
images see the same draws, so a comparison is paired: what is hard for both cancels. Draws
come from a constant seed: the same counts always give the same interval.

This spread is that of the *images*. The spread over training seeds is another thing and is
kept apart: ``seed_spread``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import FloatArray
from segbench.evaluation.counts import Counts
from segbench.evaluation.instance.average_precision import InstanceCounts
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.resampled import HEADLINE, Statistic, statistic
from segbench.statistics.bootstrap import MIN_IMAGES, resample_weights
from segbench.statistics.interval_methods import Method, best_method, mean_values, place, refusal_of

Parts = Mapping[str, Counts]
Runs = Parts | Sequence[Parts]
"""What ``load_counts`` returns; a sequence is the seeds of one row, whose mean counts."""

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
MIN_RESAMPLES = 200
WORK = 500_000_000
"""Detections x resamples of AP that the interval of a record may cost: a few seconds."""


@dataclass(frozen=True)
class Interval:
    """A score and where it may lie for other images of the same kind.

    ``low`` and ``high`` are None where the score has no value, most resamples have none, or an
    interval would not hold the truth as often as it says; ``reason`` says which.
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
class Comparison:
    """The difference A - B over the same images.

    ``p`` is two-sided and agrees with the interval: ``separable`` means that the interval
    leaves out 0, and p <= 1 - level. Without an interval ``reason`` says why there is none.
    """

    metric: str
    estimate_a: float
    estimate_b: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    separable: bool
    level: float
    method: Method
    images: int
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


@dataclass(frozen=True, eq=False)
class Draws:
    """Scores of rows on the same resamples: ``estimates`` [M], ``values`` [R, M], R as drawn.

    Resamples in which some row has no value are left out of all.
    """

    names: tuple[str, ...]
    images: int
    estimates: FloatArray
    values: FloatArray


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
        level: Share of intervals that hold the truth, in (0, 1).
        method: Default: ``best_method``. BCa corrects bias and skew of the plain percentiles;
            ``student``, for means over classes, takes out what few images of a class do, and
            always holds the score itself.
        resamples: How many times images are drawn.
        seed: Of the draws; runs to be compared need one seed.

    Raises:
        ConfigError: The metric or protocol does not fit, or the level is out of range.
        DataError: There are too few images.
    """
    runs = _statistics(counts, protocol, metric)
    method = method or best_method(runs)
    weights = resample_weights(len(runs[0].image_ids), resamples, seed)
    _check_level(level, resamples)
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
    low, high = place(method, known, estimate, [runs]).ends(level, 0.0, 1.0)
    if method == "student":  # the bias can be larger than the spread
        low, high = min(low, estimate), max(high, estimate)
    return Interval(low, high, estimate, level, method, len(known))


def compare(
    counts_a: Runs,
    counts_b: Runs,
    protocol: Protocol,
    metric: str,
    *,
    level: float = LEVEL,
    method: Method | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compare two rows on the same images; the arguments are those of ``interval``.

    Raises:
        DataError: The images or their truths differ, or a score has no value.
    """
    _check_level(level, resamples)
    sides = [_statistics(each, protocol, metric) for each in (counts_a, counts_b)]
    method = method or best_method(sides[0])
    rows = {"A": counts_a, "B": counts_b}
    drawn = draws(rows, protocol, metric, resamples=resamples, seed=seed)
    a, b = drawn.estimates.tolist()
    undecided = Comparison(
        metric, a, b, a - b, None, None, None, False, level, method, drawn.images, 0
    )
    reason = refusal_of([*sides[0], *sides[1]]) if method == "student" else None
    if reason:
        return replace(undecided, reason=reason)
    values: FloatArray = drawn.values[:, 0] - drawn.values[:, 1]
    placed = place(method, values, a - b, sides)
    low, high = placed.ends(level, -1.0, 1.0)
    apart, p = low > 0 or high < 0, placed.p_of_zero()
    return replace(undecided, low=low, high=high, p=p, separable=apart, resamples=len(values))


def headline_intervals(parts: Parts, protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return the interval of a task's headline score as a record holds it, by metric.

    Empty where there are too few images. AP takes fewer resamples of very many detections.
    """
    metric = HEADLINE[protocol.task]
    counts = next(iter(parts.values()))
    if len(counts.image_ids) < MIN_IMAGES:
        return {}
    resamples = RESAMPLES
    if isinstance(counts, InstanceCounts):
        resamples = min(RESAMPLES, max(MIN_RESAMPLES, WORK // max(1, len(counts.scores))))
    found = interval(parts, protocol, metric, resamples=resamples).as_dict()
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


def draws(
    rows: Mapping[str, Runs],
    protocol: Protocol,
    metric: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Draws:
    """Return the score of every row on the same resamples of the images they share.

    Raises:
        DataError: Images or truths differ between rows, a row has no value, or most
            resamples leave a row without one.
    """
    found = {name: _statistics(counts, protocol, metric) for name, counts in rows.items()}
    first_name, first = next((name, runs[0]) for name, runs in found.items())
    for name, runs in found.items():
        for run in runs:
            _check_paired(first, run, f"'{first_name}' and '{name}'")
    estimates = np.array([np.mean([run.estimate for run in runs]) for runs in found.values()])
    missing = [name for name, each in zip(found, estimates, strict=True) if math.isnan(each)]
    if missing:
        raise DataError(f"{metric} of '{missing[0]}' has no value under '{protocol.id}'")
    weights = resample_weights(len(first.image_ids), resamples, seed)
    values = np.stack([mean_values(runs, weights) for runs in found.values()], axis=1)
    known = values[~np.isnan(values).any(axis=1)]
    if 2 * len(known) < resamples:
        raise DataError(
            f"{metric} has no value under '{protocol.id}' in {resamples - len(known)} of "
            f"{resamples} resamples: its classes are on too few images",
            fix="compare another metric, or under a protocol that leaves absent classes out",
        )
    return Draws(tuple(found), len(first.image_ids), estimates, known)


def refuse_few(rows: Mapping[str, Runs], protocol: Protocol, metric: str) -> None:
    """Refuse rows whose scores have no interval for want of images of their classes."""
    for name, counts in rows.items():
        reason = refusal_of(_statistics(counts, protocol, metric))
        if reason:
            raise DataError(f"'{name}': {reason}", fix="score a larger split")


def _statistics(counts: Runs, protocol: Protocol, metric: str) -> list[Statistic]:
    runs = [counts] if isinstance(counts, Mapping) else list(counts)
    if not runs:
        raise DataError("there are no counts to resample")
    found = [statistic(parts, protocol, metric) for parts in runs]
    for run in found[1:]:
        _check_paired(found[0], run, "two seeds of one row")
    return found


def _check_level(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, found {level}")
    if resamples * (1 - level) < 1:
        raise ConfigError(f"{resamples} resamples are too few for a level of {level}")


def _check_paired(first: Statistic, other: Statistic, names: str) -> None:
    if first.image_ids != other.image_ids:
        differing = sorted(set(first.image_ids) ^ set(other.image_ids), key=str)
        raise DataError(
            f"{names} were scored on different images: {len(first.image_ids)} and "
            f"{len(other.image_ids)}, of which {len(differing)} are in one only, first "
            f"{differing[:3]}",
            fix="score both on the same split of the same dataset",
        )
    if not np.array_equal(first.truth, other.truth):
        where = "the number of classes differs"
        if first.truth.shape == other.truth.shape:
            rows = np.flatnonzero((first.truth != other.truth).any(axis=1))
            where = f"first at image {first.image_ids[rows[0]]}"
        raise DataError(
            f"{names} were scored against different truths, {where}",
            fix="prepare the dataset once and evaluate both again",
        )
