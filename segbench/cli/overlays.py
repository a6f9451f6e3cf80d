"""``segbench overlays``: a run's predictions and errors as pictures for the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli.output import PATH

if TYPE_CHECKING:
    from segbench.formats.prepared import PreparedDataset


@click.command()
@click.option("--data", type=PATH, required=True, help="Prepared dataset.")
@click.option("--split", default="val", show_default=True)
@click.option("--predictions", type=PATH, required=True, help="Prediction folder of the run.")
@click.option("--evaluation", type=PATH, required=True, help="Folder `segbench evaluate` wrote.")
@click.option("--out", type=PATH, required=True, help="Folder to write.")
@click.option(
    "--images", type=click.IntRange(min=0), default=200, show_default=True,
    help="Images of each task at most, worst first.",
)  # fmt: skip
def overlays(
    data: Path, split: str, predictions: Path, evaluation: Path, out: Path, images: int
) -> None:
    """Draw the worst images of a run, for the report to link.

    Which are the worst is said by counts of these very predictions. Without them, as when the
    records are of another run, images are drawn in file order; `segbench collect` says what is
    wrong with the records.
    """
    from segbench.core.output_folder import replacing
    from segbench.core.paths import Input
    from segbench.formats.manifest import check_folder, read_manifest
    from segbench.formats.prepared import PreparedDataset
    from segbench.report.pictures.overlays import write_overlays

    dataset, manifest = PreparedDataset.open(data), read_manifest(predictions)
    check_folder(predictions, manifest, dataset, split)
    inputs = (
        Input(data, "--data"), Input(predictions, "--predictions"),
        Input(evaluation, "--evaluation"),
    )  # fmt: skip
    with replacing(out, "overlays", inputs=inputs) as building:
        write_overlays(
            dataset, split, predictions,
            counts=_counts(dataset, predictions, evaluation, manifest),
            out=building, limit=images, made_from=manifest["digest"],
        )  # fmt: skip


def _counts(
    dataset: PreparedDataset, predictions: Path, evaluation: Path, manifest: dict[str, Any]
) -> dict[str, Path | None]:
    """Return the tasks to draw, each with its counts where they are those of the predictions."""
    from segbench.core.errors import DataError
    from segbench.core.progress import say
    from segbench.formats.manifest import FILES
    from segbench.workflow.record_files import check_counts, check_predictions, read_records

    try:
        found: dict[str, Path | None] = {}
        for record in read_records(evaluation):
            check_predictions(record, manifest, predictions)
            found[record["task"]] = check_counts(record, evaluation)
        return found
    except DataError as error:
        say(f"warning: images are drawn in file order: {error.what}")
        return {task: None for task in dataset.tasks if (predictions / FILES[task]).exists()}
