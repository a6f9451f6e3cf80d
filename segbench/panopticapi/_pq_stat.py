"""The sums behind panoptic quality, under panopticapi's names."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from segbench.panopticapi._support import Categories, say

GROUPS: tuple[tuple[str, bool | None], ...] = (("All", None), ("Things", True), ("Stuff", False))
"""Groups of categories by what ``isthing`` must be."""
KEYS = ("pq", "sq", "rq")


class PQStatCat:
    """Sum of matched IoU and numbers of matches, false positives, misses of a category."""

    def __init__(self) -> None:
        self.iou = 0.0
        self.tp = 0
        self.fp = 0
        self.fn = 0

    def __iadd__(self, pq_stat_cat: PQStatCat) -> PQStatCat:
        self.iou += pq_stat_cat.iou
        self.tp += pq_stat_cat.tp
        self.fp += pq_stat_cat.fp
        self.fn += pq_stat_cat.fn
        return self


class PQStat:
    """``PQStatCat`` by category id."""

    def __init__(self) -> None:
        self.pq_per_cat: defaultdict[int, PQStatCat] = defaultdict(PQStatCat)

    def __getitem__(self, i: int) -> PQStatCat:
        return self.pq_per_cat[i]

    def __iadd__(self, pq_stat: PQStat) -> PQStat:
        for label, pq_stat_cat in pq_stat.pq_per_cat.items():
            self.pq_per_cat[label] += pq_stat_cat
        return self

    def pq_average(
        self, categories: Categories, isthing: bool | None, *, strict_compat: bool = False
    ) -> tuple[dict[str, Any], dict[int, dict[str, float]]]:
        """Return means over categories and the scores of each.

        Args:
            categories: Category id -> ``isthing``.
            isthing: Things only, stuff only, or all (None).
            strict_compat: Divide by zero where no category has a segment; otherwise the means
                are None there and a warning is given.
        """
        chosen = [
            label
            for label, info in categories.items()
            if isthing is None or isthing == (info["isthing"] == 1)
        ]
        per_class = {label: _quality(self.pq_per_cat[label]) for label in chosen}
        present = [label for label in chosen if _segments(self.pq_per_cat[label])]
        if not present and not strict_compat:
            warnings.warn(f"{_group(isthing)}: no category has a segment", stacklevel=2)
            return {"pq": None, "sq": None, "rq": None, "n": 0}, per_class
        means = {key: _mean([per_class[label][key] for label in present]) for key in KEYS}
        return {**means, "n": len(present)}, per_class


def _segments(stat: PQStatCat) -> int:
    return stat.tp + stat.fp + stat.fn


def _quality(stat: PQStatCat) -> dict[str, float]:
    if not _segments(stat):
        return dict.fromkeys(KEYS, 0.0)
    weight = stat.tp + 0.5 * stat.fp + 0.5 * stat.fn
    sq = stat.iou / stat.tp if stat.tp else 0
    return {"pq": stat.iou / weight, "sq": sq, "rq": stat.tp / weight}


def _mean(values: Sequence[float]) -> float:
    total = 0.0
    for value in values:  # sum() would compensate rounding in newer Pythons
        total += value
    return total / len(values)


def _group(isthing: bool | None) -> str:
    return next(name for name, value in GROUPS if value is isthing)


def averages(
    stat: PQStat, categories: Categories, *, strict_compat: bool = False
) -> dict[str, Any]:
    """Return the result of ``pq_compute`` from statistics."""
    results: dict[str, Any] = {}
    for name, isthing in GROUPS:
        found = stat.pq_average(categories, isthing, strict_compat=strict_compat)
        results[name], per_class = found
        if name == "All":
            results["per_class"] = per_class
    _warn_of_nonsense(results["per_class"])
    return results


def _warn_of_nonsense(per_class: Mapping[int, Mapping[str, float]]) -> None:
    """Warn where matched segments overlap by more than their union."""
    wrong = [f"{label} ({100 * row['sq']:.1f} %)" for label, row in per_class.items()
             if row["sq"] > 1]  # fmt: skip
    if wrong:
        warnings.warn(
            f"SQ is above 100 % in {len(wrong)} categories, first {', '.join(wrong[:3])}: areas "
            "in the JSON of the truth are not those of its PNGs; leave strict_compat to count them",
            stacklevel=3,
        )


def print_table(results: Mapping[str, Any], *, width: int = 10, rule: bool = True) -> None:
    """Print PQ, SQ, RQ in percent and the number of categories of each group."""
    say(f"{'':{width}s}| {'PQ':>5s}  {'SQ':>5s}  {'RQ':>5s} {'N':>5s}")
    if rule:
        say("-" * (width + 7 * 4))
    for name, _ in GROUPS:
        shown = "  ".join(_percent(results[name][key]) for key in KEYS)
        say(f"{name:{width}s}| {shown} {results[name]['n']:5d}")


def _percent(value: float | None) -> str:
    return f"{'-':>5s}" if value is None else f"{100 * value:5.1f}"
