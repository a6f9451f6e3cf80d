"""``segbench evaluate``: predictions against prepared ground truth, as counts and records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from segbench.cli import output

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
    from segbench.workflow.record import score_folder
    from segbench.workflow.record_files import write_records

    dataset, manifest = PreparedDataset.open(data), read_manifest(predictions)
    check_folder(predictions, manifest, dataset, split)
    chosen = cast("tuple[Task, ...]", tasks or _present(dataset, predictions))
    names = [f"{task}/{name}" for task in chosen for name in ("counts.npz", "record.json")]
    with updating(
        out, "evaluation", ours=_is_evaluation, files=[*names, RECORDS], last=RECORDS,
        inputs=(Input(data, "--data"), Input(predictions, "--predictions")),
    ) as building:  # fmt: skip
        records = []
        for task in chosen:
            record = score_folder(
                dataset, split, predictions, manifest,
                task=task, protocol_id=protocol or dataset.protocol(task),
                out=building / task, workers=workers, boundary=boundary,
            )  # fmt: skip
            _say(record)
            records.append(record)
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


def _say(record: dict[str, Any]) -> None:
    for warning in record["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    scores = {k: v for k, v in record["scores"].items() if v is not None and k.split("_")[0] != "n"}
    shown = [f"{key} {100 * value:.1f}" for key, value in scores.items()]
    click.echo(f"{record['task']} ({record['protocol']}): {'  '.join(shown[:8])}", err=True)
