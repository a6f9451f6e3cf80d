"""Scores of counts, whatever their task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from segbench.evaluation.boundary_scores import boundary_scores
from segbench.evaluation.kinds import MAIN, Counts, kind_of
from segbench.evaluation.metrics import metrics_of
from segbench.evaluation.protocol import Protocol


def score_parts(parts: Mapping[str, Counts], protocol: Protocol) -> dict[str, Any]:
    """Turn stored counts into scores under a protocol, ``per_class`` among them."""
    result: dict[str, Any] = {}
    per_class: list[dict[str, Any]] = []
    for part, counts in parts.items():
        if part == "semantic_labels" and not protocol.instance_weighted:
            continue
        for found in (kind_of(counts).scores(counts, protocol), boundary_scores(counts, protocol)):
            rows = found.pop("per_class", per_class)
            per_class = [{**old, **new} for old, new in zip(per_class or rows, rows, strict=True)]
            result |= found
        result |= _of_rows(part, counts, protocol)
    return {**result, "per_class": per_class}


def _of_rows(part: str, counts: Counts, protocol: Protocol) -> dict[str, float | None]:
    """Return the scores of the rows of ``metrics.SCORES`` that bring their own function."""
    if part not in MAIN:
        return {}
    place, once = np.arange(len(counts.image_ids)), np.ones((1, len(counts.image_ids)))
    found = {}
    for metric in metrics_of(protocol.task):
        if metric.statistic is not None:
            value = float(metric.statistic(counts, place, protocol)[1](once)[0])
            found[metric.key] = None if math.isnan(value) else value
    return found
