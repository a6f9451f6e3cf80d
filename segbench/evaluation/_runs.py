"""Runs of equal values: label maps are nearly all runs, so counting runs beats counting pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.types import IntArray


def run_starts(*maps: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Return where, read row by row, a run of equal values starts in all maps, and its length."""
    size = maps[0].size
    if size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    changes = np.zeros(size, dtype=bool)
    changes[0] = True
    for flat in (values.reshape(-1) for values in maps):
        changes[1:] |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(starts, append=size)


def run_lengths(values: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the value and the int64 length of each run of equal values, read row by row."""
    starts, lengths = run_starts(values)
    return values.reshape(-1)[starts], lengths


def sum_by_value(values: NDArray[Any], amounts: IntArray) -> tuple[NDArray[Any], IntArray]:
    """Return the distinct values in ascending order and the int64 sum of the amounts of each."""
    if not len(values):
        return values, np.zeros(0, dtype=np.int64)
    order = np.argsort(values)
    ordered = values[order]
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[firsts], np.add.reduceat(amounts[order], firsts)


def value_counts(values: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the distinct values in ascending order and how often each occurs (int64)."""
    return sum_by_value(*run_lengths(values))
