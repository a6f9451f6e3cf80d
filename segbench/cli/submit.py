"""``segbench submit``: predictions made elsewhere become the predictions of a row."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli import output
from segbench.cli.predict import DATA, OUT


@click.command()
@click.argument("submission", type=output.PATH)
@DATA
@OUT
def submit(submission: Path, data: Path, out: Path) -> None:
    """Check and copy the prediction folder that SUBMISSION (a YAML file) names.

    Nothing is trained. The folder must cover the split; manifest.json is written last.
    """
    from segbench.core.output_folder import replacing
    from segbench.core.paths import Input
    from segbench.formats.manifest import write_manifest
    from segbench.formats.prepared import PreparedDataset
    from segbench.workflow.config import load_submission
    from segbench.workflow.plan import check_submission
    from segbench.workflow.submissions import take_over

    entry = load_submission(submission)
    check_submission(entry, submission)
    dataset = PreparedDataset.open(data)
    inputs = (Input(data, "--data"), Input(entry.folder, "folder of the submission"))
    with replacing(out, "predictions", inputs=inputs) as building:
        take_over(entry, dataset, building)
        write_manifest(
            building,
            kind="submission",
            dataset=dataset.name,
            experiment=submission.stem,
            model=None,
            display_name=entry.display_name or submission.stem.replace("_", " "),
            seed=0,
            split=entry.split,
            digests={"data": dataset.digest},
        )
