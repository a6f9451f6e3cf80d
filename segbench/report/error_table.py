"""Where the AP50 of an instance run is lost, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segbench.evaluation.metrics import Metric
from segbench.report.rows import Cell

_ROWS = (
    ("classification", "Wrong class", "right place (IoU of 0.5 or more), wrong class"),
    ("localisation", "Wrong place", "right class, IoU between 0.1 and 0.5"),
    ("both", "Both wrong", "neither class nor place is right, but it touches an object"),
    ("duplicate", "Duplicate", "the object has a better detection"),
    ("background", "Background", "nothing is there (IoU of 0.1 or less)"),
    ("missed", "Missed", "objects that no detection comes near"),
    ("false_positive", "All false positives", "every wrong detection, whatever the reason"),
    ("false_negative", "All false negatives", "every object without a match"),
)
_GAIN = Metric("dap50", "AP50 gained", "AP50 that mending this kind of error alone would give")
_SHAPES = (("segm", "Masks"), ("bbox", "Boxes"))


@dataclass(frozen=True)
class Gain:
    """One error of one kind of shape; ``share`` in [0, 1] is the length of its bar."""

    text: str
    share: float
    count: int | None


@dataclass(frozen=True)
class ErrorTable:
    """``shapes``: heads of column pairs; ``rows``: label, meaning and a ``Gain`` a shape."""

    shapes: tuple[str, ...]
    gain: Metric
    rows: tuple[tuple[str, str, tuple[Gain, ...]], ...]


def error_table(cell: Cell) -> ErrorTable | None:
    """Return the errors of a record; None where it holds none."""
    errors = cell["record"].get("errors")
    if not errors:
        return None
    shapes = [(errors[key], title) for key, title in _SHAPES if key in errors]
    rows = [
        (label, meaning, tuple(_gain(found, key) for found, _ in shapes))
        for key, label, meaning in _ROWS
    ]
    return ErrorTable(tuple(title for _, title in shapes), _GAIN, tuple(rows))


def _gain(found: Mapping[str, Any], key: str) -> Gain:
    value = found["dap50"].get(key)
    return Gain(_GAIN.text(value), min(max(value or 0.0, 0.0), 1.0), found["counts"].get(key))
