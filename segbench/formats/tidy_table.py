"""The tidy table: one row a cell and task, as CSV whose cells no spreadsheet runs as a formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

_STARTS = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""First characters that make a spreadsheet take a text for a formula, full-width ones too."""


def neutral(value: Any) -> Any:
    """Return a value whose text no spreadsheet runs: with an apostrophe before it.

    Numbers, and texts that are numbers, stay as they are. A carriage return, which ends a line
    in some readers and is not quoted, becomes a line feed.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if not text.lstrip(" ").startswith(_STARTS):
        return text
    return text if _is_number(text) else f"'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not any(sign in text for sign in "\t\n")


def tidy(table: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a cell and task, one column a score: what people load elsewhere."""
    keys = ("dataset", "experiment", "display_name", "kind", "seed", "task", "split", "status")
    rows = []
    for cell in table["cells"]:
        row = {key: cell.get(key) for key in keys}
        record, profile = cell.get("record") or {}, cell.get("profile") or {}
        row["protocol"] = record.get("protocol")
        row |= {key: profile.get(key) for key in ("params", "gmacs", "latency_ms")}
        rows.append(row | record.get("scores", {}))
    return pd.DataFrame(rows)


def tidy_csv(table: Mapping[str, Any]) -> str:
    """Return the tidy table as CSV."""
    frame = tidy(table)
    frame.columns = [neutral(name) for name in frame.columns]
    return str(frame.map(neutral).to_csv(index=False))
