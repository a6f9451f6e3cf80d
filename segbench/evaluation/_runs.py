"""Runs of equal values: label maps are nearly all runs, so counting runs beats counting pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.types import IntArray


def run_lengths(values: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the value and the int64 length of each run of equal values, read row by row."""
    flat = values.reshape(-1)
    if flat.size == 0:
        return flat, np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts], np.diff(starts, append=flat.size)


def value_counts(values: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
    """Return the distinct values in ascending order and how often each occurs (int64)."""
    run_values, lengths = run_lengths(values)
    distinct, inverse = np.unique(run_values, return_inverse=True)
    counts = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(counts, inverse.reshape(-1), lengths)
    return distinct, counts
