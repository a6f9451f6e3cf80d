"""``segbench evaluate``: predictions against prepared truth, as counts and records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from segbench.cli import error_split, output

if TYPE_CHECKING:
    from segbench.core.types import Task
    from segbench.formats.prepared import PreparedDataset


RECORDS = "records.json"


@click.command()
@click.option("--data", type=output.PATH, required=True, help="Prepared dataset.")
@click.option("--split", default="val", show_default=True)
@click.option(
    "--task", "tasks", type=click.Choice(["semantic", "instance", "panoptic"]), multiple=True,
    help="Repeatable; default: every task there are predictions and a truth for.",
)  # fmt: skip
@click.option(
    "--predictions", type=output.PATH, required=True,
    help="Folder written by `segbench predict` or `segbench control`.",
)  # fmt: skip
@click.option("--protocol", help="Protocol id; default: the dataset's.")
@click.option("--boundary", is_flag=True, help="Also score boundaries where the protocol can.")
@click.option("--out", type=output.PATH, required=True, help="Folder to write.")
@output.workers
@click.option("--json", "as_json", is_flag=True, help="Print the records.")
def evaluate(
    data: Path, split: str, tasks: tuple[str, ...], predictions: Path, protocol: str | None,
    boundary: bool, out: Path, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Score a finished prediction folder: counts.npz and record.json of each task.

    records.json is written last of all; without it the scores are unfinished.
    """
    from segbench.core.output_folder import updating
    from segbench.core.paths import Input
    from segbench.formats.manifest import check_folder, read_manifest
    from segbench.formats.prepared import PreparedDataset
    from segbench.workflow.record import write_records

    dataset, manifest = PreparedDataset.open(data), read_manifest(predictions)
    check_folder(predictions, manifest, dataset, split)
    chosen = tasks or _present(dataset, predictions)
    names = [f"{task}/{name}" for task in chosen for name in ("counts.npz", "record.json")]
    with updating(
        out, "evaluation", ours=_is_evaluation, files=[*names, RECORDS], last=RECORDS,
        inputs=(Input(data, "--data"), Input(predictions, "--predictions")),
    ) as building:  # fmt: skip
        records = [
            _score(
                dataset, split, predictions, manifest,
                cast("Task", task), protocol, building / task, workers, boundary,
            )
            for task in chosen
        ]  # fmt: skip
        write_records(building, records)
    if as_json:
        output.json_out(records)


def _is_evaluation(folder: Path) -> bool:
    """Say whether a folder without a marker was written by an earlier version."""
    from segbench.core.older_folders import is_record, json_object

    if isinstance(json_object(folder / RECORDS).get("records"), list):
        return True
    return any(is_record(json_object(record)) for record in folder.glob("*/record.json"))


def _present(dataset: PreparedDataset, predictions: Path) -> tuple[str, ...]:
    from segbench.core.errors import DataError
    from segbench.formats.manifest import FILES

    found = tuple(t for t in dataset.tasks if (predictions / FILES[t]).exists())
    if not found:
        wanted = ", ".join(FILES[task] for task in dataset.tasks)
        raise DataError(f"{predictions}: found none of {wanted}")
    return found


def _score(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    manifest: dict[str, Any],
    task: Task,
    protocol: str | None,
    out: Path,
    workers: int,
    boundary: bool,
) -> dict[str, Any]:
    from segbench.core.files import write_json
    from segbench.evaluation.count_split import evaluate as score
    from segbench.evaluation.counts import load_counts
    from segbench.evaluation.explain import explain_parts
    from segbench.evaluation.protocol import get_protocol
    from segbench.statistics.intervals import headline_intervals
    from segbench.workflow.record import build_record

    begin = time.monotonic()
    protocol_id = protocol or dataset.protocol(task)
    result = score(
        dataset, split, predictions,
        task=task, protocol_id=protocol_id, counts_path=out / "counts.npz",
        boundary=boundary, workers=workers,
    )  # fmt: skip
    warnings = [w.replace(f"{dataset.root}/", "") for w in result.warnings]
    warnings = [w.replace(f"{predictions}/", "") for w in warnings]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    parts = load_counts(out / "counts.npz")
    errors = None
    if task == "instance":
        errors = error_split.split(dataset.instances_file(split), predictions / "instances.json")
    record = build_record(
        manifest,
        task=task,
        protocol=protocol_id,
        scores=result.scores,
        per_class=result.per_class,
        num_images=result.num_images,
        counts=out / "counts.npz",
        intervals=headline_intervals(parts, get_protocol(protocol_id, task=task)),
        rules=explain_parts(parts, [row["name"] for row in result.per_class]),
        errors=errors,
        warnings=warnings,
        seconds=time.monotonic() - begin,
    )
    write_json(out / "record.json", record)
    fractions = {k: v for k, v in result.scores.items() if v is not None and k.split("_")[0] != "n"}
    shown = [f"{k} {100 * v:.1f}" for k, v in fractions.items()]
    click.echo(f"{task} ({protocol_id}): {'  '.join(shown[:8])}", err=True)
    return record
