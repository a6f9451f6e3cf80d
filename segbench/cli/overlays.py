"""``segbench overlays``: a run's predictions and errors as pictures for the report."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.output import PATH


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
    """Draw the worst images of a run, for the report to link."""
    from segbench.formats import read_json
    from segbench.manifest import read_manifest
    from segbench.output_folder import replacing
    from segbench.paths import Input
    from segbench.prepared import PreparedDataset
    from segbench.report_overlays import write_overlays

    dataset = PreparedDataset.open(data)
    read_manifest(predictions)
    records = read_json(evaluation / "records.json")["records"]
    inputs = (
        Input(data, "--data"), Input(predictions, "--predictions"),
        Input(evaluation, "--evaluation"),
    )  # fmt: skip
    with replacing(out, "overlays", inputs=inputs) as building:
        write_overlays(
            dataset, split, predictions,
            tasks=[record["task"] for record in records],
            evaluation=evaluation, out=building, limit=images,
        )  # fmt: skip
