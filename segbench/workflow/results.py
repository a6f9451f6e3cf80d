"""Records and the tidy table: what the board reads, and nothing else.

A record is one JSON per (dataset, experiment, seed, task, protocol). The table gathers the
records, profiles and failures of a plan; a cell without a record is shown as failed (its
log is there) or not run, one whose record is not its own as foreign or damaged, never as a
zero or a blank. Beside the cells stand the tie groups of
every board: which rows the images cannot tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segbench.core.errors import ForeignFile, SegbenchError
from segbench.core.files import write_json, write_text
from segbench.core.types import Task
from segbench.formats.tidy_table import tidy_csv
from segbench.workflow.board_ties import board_ties
from segbench.workflow.cell import Cell
from segbench.workflow.digest_cache import DigestCache
from segbench.workflow.failures import explain
from segbench.workflow.plan import Plan
from segbench.workflow.result_checks import ResultChecks

SCHEMA = 1


def collect(plan: Plan) -> dict[str, Any]:
    """Gather every cell of a plan into the table the report reads."""
    root = plan.results
    checks = ResultChecks(root, DigestCache(root))
    cells = [_cell(plan, checks, cell, task) for cell in plan.cells for task in cell.tasks]
    checks.digests.save()
    return {
        "schema": SCHEMA,
        "title": plan.config.report.title,
        "gallery_images": plan.config.report.gallery_images,
        "datasets": {name: checks.dataset(name) for name in plan.datasets},
        "models": {cell.model.id: cell.model.as_dict() for cell in plan.cells if cell.model},
        "cells": cells,
        "ties": board_ties(root, cells),
    }


def write_table(plan: Plan, out: Path) -> dict[str, Any]:
    """Write ``out`` (JSON) and the same rows as CSV beside it; return the table."""
    table = collect(plan)
    write_json(out, {**table, "results": str(plan.results)})
    write_text(out.with_suffix(".csv"), tidy_csv(table))
    return table


def _cell(plan: Plan, checks: ResultChecks, cell: Cell, task: Task) -> dict[str, Any]:
    root = checks.root
    record, status, reason = _record(checks, cell, task)
    logs = cell_logs(root, cell)
    if not status:
        failure = explain(plan, cell)
        status, reason, log = failure.status, failure.reason, failure.log
        logs = logs if log is None else [*(path for path in logs if path != log), log]
    profile, note = _profile(checks, cell)
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
        "profile": profile,
        "notes": [note] if note else [],
    }


def _record(checks: ResultChecks, cell: Cell, task: Task) -> tuple[dict[str, Any] | None, str, str]:
    """Return the record of a cell, its status and the reason; no status where there is none."""
    folder = checks.root / cell.folder / "evaluation" / cell.split
    if not (folder / "records.json").exists():
        return None, "", ""
    try:
        return checks.record(cell, task), "ok", ""
    except SegbenchError as error:
        status = "foreign" if isinstance(error, ForeignFile) else "damaged"
        return None, status, _in_one_line(error, checks.root)


def _profile(checks: ResultChecks, cell: Cell) -> tuple[dict[str, Any] | None, str]:
    """Return the profile of a cell, and why it is not shown."""
    try:
        return checks.profile(cell), ""
    except SegbenchError as error:
        return None, f"cost not shown: {_in_one_line(error, checks.root)}"


def _in_one_line(error: SegbenchError, root: Path) -> str:
    """Return what is wrong and what to do; paths are relative to the results folder."""
    text = "; ".join(filter(None, (error.what, error.fix)))
    for folder in (root.resolve(), root):
        if folder != Path():
            text = text.replace(f"{folder}/", "")
    return " ".join(text.split())


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
