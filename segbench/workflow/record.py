"""The record of one scored prediction folder: what was scored, under which rule, with what result.

There is one record per (dataset, experiment, seed, split, task, protocol). The folder that
``segbench evaluate`` writes holds each beside its counts and all of them in ``records.json``.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segbench import __version__
from segbench.core import provenance
from segbench.core.files import write_json
from segbench.core.seal import sealed
from segbench.core.types import Task
from segbench.evaluation.count_split import evaluate
from segbench.evaluation.counts import load_counts
from segbench.evaluation.explain import explain_parts
from segbench.evaluation.instance.tide import errors_of
from segbench.evaluation.protocol import get_protocol
from segbench.formats.prepared import PreparedDataset
from segbench.statistics.intervals import headline_intervals

SCHEMA = 1


def build_record(
    manifest: dict[str, Any],
    *,
    task: Task,
    protocol: str,
    scores: dict[str, float | None],
    per_class: list[dict[str, Any]],
    num_images: int,
    counts: Path,
    seconds: float,
    intervals: dict[str, dict[str, Any]] | None = None,
    rules: dict[str, Any] | None = None,
    errors: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the record of one scored prediction folder (form: docs/contracts.md).

    ``counts`` is the file of the counts that the scores were made from.
    """
    commit, dirty = provenance.git_commit()
    facts = ("dataset", "experiment", "kind", "model", "display_name", "seed", "split")
    digests = {
        **manifest.get("digests", {}),
        "predictions": manifest["digest"],
        "counts": provenance.file_digest(counts),
    }
    record = {
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
        "counts": counts.name,
        "digests": digests,
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
    return sealed(record)


def score_folder(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    manifest: dict[str, Any],
    *,
    task: Task,
    protocol_id: str,
    out: Path,
    workers: int = 1,
    boundary: bool = False,
) -> dict[str, Any]:
    """Score one task of a prediction folder; write ``counts.npz`` and ``record.json``.

    Args:
        dataset: The prepared ground truth.
        split: One of its splits.
        predictions: The prediction folder.
        manifest: Its manifest.
        task: What to score.
        protocol_id: The protocol to score under.
        out: Folder of the two files.
        workers: Processes that count images.
        boundary: Score boundaries too.

    Returns:
        The record.

    Raises:
        ConfigError: The protocol does not fit.
        DataError: A prediction is missing, broken or does not fit the ground truth.
    """
    begin, counts = time.monotonic(), out / "counts.npz"
    result = evaluate(
        dataset, split, predictions,
        task=task, protocol_id=protocol_id, counts_path=counts, boundary=boundary, workers=workers,
    )  # fmt: skip
    parts = load_counts(counts)
    record = build_record(
        manifest,
        task=task,
        protocol=protocol_id,
        scores=result.scores,
        per_class=result.per_class,
        num_images=result.num_images,
        counts=counts,
        intervals=headline_intervals(parts, get_protocol(protocol_id, task=task)),
        rules=explain_parts(parts, [row["name"] for row in result.per_class]),
        errors=_errors(dataset, split, predictions) if task == "instance" else None,
        warnings=[_without_folders(text, dataset.root, predictions) for text in result.warnings],
        seconds=time.monotonic() - begin,
    )
    write_json(out / "record.json", record)
    return record


def _errors(dataset: PreparedDataset, split: str, predictions: Path) -> dict[str, Any]:
    return errors_of(dataset.instances_file(split), predictions / "instances.json")


def _without_folders(text: str, *folders: Path) -> str:
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return text
