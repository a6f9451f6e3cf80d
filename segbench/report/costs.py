"""What the report knows of each number: label, unit, direction, decimals, explanation.

Scores are fractions in records and percentages on the page; this module is the only place
that turns one into the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segbench.evaluation.metrics import MISSING, Metric

AXIS_TITLES: Mapping[str, str] = {
    "params": "Parameters",
    "gmacs": "Multiply-adds (GMACs)",
    "latency_ms": "Median latency in ms an image",
}


_UNMEASURED = "not measured for this row"
COSTS: tuple[Metric, ...] = (
    Metric("params", "Params (M)", "parameters in millions", "Cost", 1e-6, 2, False, _UNMEASURED),
    Metric("gmacs", "GMACs", "billions of multiply-adds", "Cost", 1.0, 2, False, _UNMEASURED),
    Metric("latency_ms", "ms / image", "median latency", "Cost", 1.0, 1, False, _UNMEASURED),
)

MEMORY = Metric(
    "peak_memory_mb", "Memory (MB)", "peak memory of one image", "Cost", 1.0, 0, False, _UNMEASURED
)
"""A cost that the tables of panoptic papers state."""


def duration(seconds: float | None) -> str:
    """Return a wall time as ``45 s``, ``12 min 30 s`` or ``3 h 05 min``."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"


def input_size(profile: Mapping[str, Any] | None) -> str:
    """Return the input size of a profile as ``512 x 512`` or an empty string."""
    size = (profile or {}).get("input_size")
    return f"{size[0]}×{size[1]}" if size else ""
