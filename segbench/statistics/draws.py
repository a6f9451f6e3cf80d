"""Draws of images with replacement, and the score of every draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import FloatArray
from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.kinds import Counts
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.resampled import Statistic, statistic
from segbench.statistics.bootstrap import resample_weights
from segbench.statistics.interval_methods import mean_values, refusal_of

Parts = Mapping[str, Counts]
Runs = Parts | Sequence[Parts]
"""What ``load_counts`` returns; a sequence is the seeds of one row, whose mean counts."""
RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
MIN_RESAMPLES = 200
WORK = 500_000_000
"""Detections x resamples of AP that the interval of a record may cost: a few seconds."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Scores of rows on the same resamples: ``estimates`` [M], ``values`` [R, M], R as drawn.

    Resamples in which some row has no value are left out of all.
    """

    names: tuple[str, ...]
    images: int
    estimates: FloatArray
    values: FloatArray


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
    found = {name: statistics_of(counts, protocol, metric) for name, counts in rows.items()}
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


def affordable_resamples(parts: Parts) -> int:
    """Return how many resamples a score may cost: fewer for AP of very many detections."""
    counts = next(iter(parts.values()))
    if not isinstance(counts, InstanceCounts):
        return RESAMPLES
    return min(RESAMPLES, max(MIN_RESAMPLES, WORK // max(1, len(counts.scores))))


def refuse_few(rows: Mapping[str, Runs], protocol: Protocol, metric: str) -> None:
    """Refuse rows whose scores have no interval for want of images of their classes."""
    for name, counts in rows.items():
        reason = refusal_of(statistics_of(counts, protocol, metric))
        if reason:
            raise DataError(f"'{name}': {reason}", fix="score a larger split")


def statistics_of(counts: Runs, protocol: Protocol, metric: str) -> list[Statistic]:
    """Return the score of each seed of a row as a function of weights.

    Raises:
        DataError: There are no counts, or the seeds were scored on different images.
    """
    runs = [counts] if isinstance(counts, Mapping) else list(counts)
    if not runs:
        raise DataError("there are no counts to resample")
    found = [statistic(parts, protocol, metric) for parts in runs]
    for run in found[1:]:
        _check_paired(found[0], run, "two seeds of one row")
    return found


def check_level(level: float, resamples: int) -> None:
    """Refuse a level outside (0, 1), or one that so few resamples cannot reach."""
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
