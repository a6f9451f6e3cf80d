"""Is a difference real? Intervals and comparisons from stored counts, by a paired bootstrap.

Images are drawn with replacement, as many as there are; the score of each draw is the
protocol's score of those images (``segbench.evaluation.resampled``). All runs on one set of
images see the same draws, so a comparison is paired: what is hard for both cancels. Draws
come from a constant seed: the same counts always give the same interval.

This spread is that of the *images*. The spread over training seeds is another thing and is
kept apart: ``seed_spread``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from segbench.core.types import FloatArray
from segbench.evaluation.protocol import Protocol
from segbench.statistics.draws import (
    LEVEL,
    RESAMPLES,
    SEED,
    Runs,
    check_level,
    draws,
    statistics_of,
)
from segbench.statistics.interval_methods import Method, best_method, interval_of, refusal_of


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
    check_level(level, resamples)
    sides = [statistics_of(each, protocol, metric) for each in (counts_a, counts_b)]
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
    placed = interval_of(method, values, a - b, sides)
    low, high = placed.ends(level, -1.0, 1.0)
    apart, p = low > 0 or high < 0, placed.p_of_zero()
    return replace(undecided, low=low, high=high, p=p, separable=apart, resamples=len(values))
