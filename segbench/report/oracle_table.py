"""What a network would score if one of its parts were perfect: the table of an oracle ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segbench.evaluation.metrics import MISSING, Metric, metrics_of
from segbench.report.runs import Run

COLUMNS = (
    ("panoptic", "pq", "PQ"),
    ("panoptic", "pq_things", "PQ things"),
    ("panoptic", "pq_stuff", "PQ stuff"),
    ("instance", "box_ap", "Box AP"),
    ("instance", "ap", "Mask AP"),
    ("semantic", "miou", "mIoU"),
)
"""Task, score and label, as in LPSNet's Table 6."""
_WORDS = {"semantic": "its semantic map", "boxes": "its boxes", "masks": "its masks"}


@dataclass(frozen=True)
class OracleRow:
    """One line: ``cells`` are score and change against the network alone, as texts."""

    name: str
    slug: str
    cells: tuple[tuple[str, str], ...]
    here: bool


@dataclass(frozen=True)
class OracleTable:
    """The network alone first, then each oracle in the order of the configuration."""

    labels: tuple[str, ...]
    rows: tuple[OracleRow, ...]


def network_of(run: Run) -> str:
    """Return the experiment whose weights predicted."""
    return str((run.oracle or {}).get("of") or run.experiment)


def oracle_words(parts: Sequence[str]) -> str:
    """Return parts as in ``its semantic map, its boxes and its masks``."""
    words = [_WORDS.get(part, part) for part in parts]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def oracle_table(run: Run, runs: Sequence[Run]) -> OracleTable | None:
    """Return the ablation that a run belongs to; None where there is none.

    Scores of another protocol than the network's own are left out.

    Args:
        run: A trained run or one of its oracles.
        runs: All runs of the table.
    """
    family = [
        other
        for other in runs
        if (other.dataset, other.seed) == (run.dataset, run.seed)
        and network_of(other) == network_of(run)
    ]
    family.sort(key=lambda other: other.oracle is not None)
    if len(family) < 2:
        return None
    base = _records(family[0]) or _records(family[1])
    metrics = {(t, k): m for t, k, _ in COLUMNS for m in metrics_of(t) if m.key == k}
    shown = [(t, k, label) for t, k, label in COLUMNS if k in base.get(t, {}).get("scores", {})]
    rows = tuple(
        OracleRow(
            name=_name(other),
            slug=other.slug,
            cells=tuple(_cell(metrics[t, k], _records(other).get(t), base[t]) for t, k, _ in shown),
            here=other is run,
        )
        for other in family
    )
    return OracleTable(tuple(label for _, _, label in shown), rows)


def _name(run: Run) -> str:
    return f"oracle:{'+'.join(run.oracle['parts'])}" if run.oracle else "all parts its own"


def _records(run: Run) -> dict[str, Mapping[str, Any]]:
    return {cell["task"]: cell["record"] for cell in run.scored}


def _cell(
    metric: Metric, record: Mapping[str, Any] | None, base: Mapping[str, Any]
) -> tuple[str, str]:
    if record is None or record["protocol"] != base["protocol"]:
        return MISSING, ""
    value, before = (part["scores"].get(metric.key) for part in (record, base))
    if value is None or before is None or record is base:
        return metric.text(value), ""
    points = round(metric.scale * (value - before), metric.decimals)
    return metric.text(value), f"{points:+.{metric.decimals}f}" if points else "same"
