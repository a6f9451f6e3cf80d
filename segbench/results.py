"""Records and the tidy table: what the board reads, and nothing else.

A record is one JSON per (dataset, experiment, seed, task, protocol). The table gathers the
records, profiles and failures of a plan; a cell without a record is shown as failed (its
log is there) or not run, never as a zero or a blank. Beside the cells stand the tie groups of
every board: which rows the images cannot tell apart.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segbench import __version__, provenance
from segbench.board_ties import board_ties
from segbench.failures import explain
from segbench.formats import read_json, write_json, write_text
from segbench.plan import Cell, Plan
from segbench.prepared import PreparedDataset
from segbench.types import Task

SCHEMA = 1


def build_record(
    manifest: dict[str, Any],
    *,
    task: Task,
    protocol: str,
    scores: dict[str, float | None],
    per_class: list[dict[str, Any]],
    num_images: int,
    seconds: float,
    intervals: dict[str, dict[str, Any]] | None = None,
    rules: dict[str, Any] | None = None,
    errors: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the record of one scored prediction folder (form: docs/architecture.md)."""
    commit, dirty = provenance.git_commit()
    facts = ("dataset", "experiment", "kind", "model", "display_name", "seed", "split")
    return {
        "schema": SCHEMA,
        **{key: manifest.get(key) for key in facts},
        "oracles": list(manifest.get("oracles", ())),
        "task": task,
        "protocol": protocol,
        "num_images": num_images,
        "scores": scores,
        "intervals": intervals or {},
        "rules": rules,
        "errors": errors,
        "warnings": list(warnings),
        "per_class": per_class,
        "counts": "counts.npz",
        "digests": {**manifest.get("digests", {}), "predictions": manifest["digest"]},
        "provenance": {
            "segbench": __version__,
            "commit": commit,
            "dirty": dirty,
            "versions": provenance.versions(),
            "hardware": manifest.get("hardware", provenance.hardware()),
            "device": manifest.get("device", "cpu"),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "wall_time_s": {**manifest.get("wall_time_s", {}), "evaluate": round(seconds, 2)},
        },
    }


def collect(plan: Plan) -> dict[str, Any]:
    """Gather every cell of a plan into the table the report reads."""
    root = plan.results
    cells = [_cell(plan, cell, task) for cell in plan.cells for task in cell.tasks]
    return {
        "schema": SCHEMA,
        "title": plan.config.report.title,
        "gallery_images": plan.config.report.gallery_images,
        "datasets": {name: _dataset(root / "data" / name) for name in plan.datasets},
        "models": {cell.model.id: cell.model.as_dict() for cell in plan.cells if cell.model},
        "cells": cells,
        "ties": board_ties(root, cells),
    }


def write_table(plan: Plan, out: Path) -> dict[str, Any]:
    """Write ``out`` (JSON) and the same rows as CSV beside it; return the table."""
    table = collect(plan)
    write_json(out, {**table, "results": str(plan.results)})
    write_text(out.with_suffix(".csv"), tidy(table).to_csv(index=False))
    return table


def tidy(table: dict[str, Any]) -> pd.DataFrame:
    """Return one row a cell and task, one column a score: what people load elsewhere."""
    keys = ("dataset", "experiment", "display_name", "kind", "seed", "task", "split", "status")
    rows = []
    for cell in table["cells"]:
        row = {key: cell[key] for key in keys}
        record, profile = cell["record"] or {}, cell["profile"] or {}
        row["protocol"] = record.get("protocol")
        row |= {key: profile.get(key) for key in ("params", "gmacs", "latency_ms")}
        rows.append(row | record.get("scores", {}))
    return pd.DataFrame(rows)


def _dataset(root: Path) -> dict[str, Any] | None:
    if not (root / "dataset.json").exists():
        return None
    return PreparedDataset.open(root).description


def _cell(plan: Plan, cell: Cell, task: Task) -> dict[str, Any]:
    root = plan.results
    records = _json(root / cell.folder / "evaluation" / cell.split / "records.json")
    record = next((r for r in records["records"] if r["task"] == task), None) if records else None
    logs = cell_logs(root, cell)
    status, reason = "ok", ""
    if record is None:
        failure = explain(plan, cell)
        status, reason, log = failure.status, failure.reason, failure.log
        logs = logs if log is None else [*(path for path in logs if path != log), log]
    return {
        "dataset": cell.dataset,
        "experiment": cell.experiment,
        "seed": cell.seed,
        "task": task,
        "split": cell.split,
        "kind": cell.kind,
        "model": cell.model.id if cell.model else None,
        "display_name": cell.display_name,
        "status": status,
        "reason": reason,
        "run_folder": cell.folder.as_posix(),
        "logs": [log.relative_to(root).as_posix() for log in logs],
        "record": record,
        "submission": _submitted(cell),
        "oracle": _oracle(cell),
        "profile": _json(root / cell.folder / "profile.json"),
    }


def _submitted(cell: Cell) -> dict[str, Any] | None:
    """Return what a submission says of itself; None for other rows."""
    if cell.submission is None:
        return None
    return cell.submission.model_dump(mode="json", include={"paper", "year", "reported"})


def _oracle(cell: Cell) -> dict[str, Any] | None:
    """Return whose predictions these are and which parts are the truth; None for other rows."""
    return {"of": cell.trained_as, "parts": list(cell.oracles)} if cell.oracles else None


def cell_logs(root: Path, cell: Cell) -> list[Path]:
    """Return the logs of a cell that exist, in the order its stages run."""
    name, logs = f"{cell.folder.as_posix()}.log", root / "logs"
    split = cell.split
    by_split = [f"{stage}/{split}" for stage in ("control", "submit", "predict", "evaluate")]
    paths = [logs / stage / name for stage in (*by_split, "profile")]
    paths = [logs / "train" / f"{cell.trained_folder.as_posix()}.log", *paths]
    return [path for path in paths if path.exists()]


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None
