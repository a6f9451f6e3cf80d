"""``segbench submit``: predictions made elsewhere become the predictions of a row."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.predict import DATA, OUT


@click.command()
@click.argument("submission", type=click.Path(path_type=Path))
@DATA
@OUT
def submit(submission: Path, data: Path, out: Path) -> None:
    """Check and copy the prediction folder that SUBMISSION (a YAML file) names.

    Nothing is trained. The folder must cover the split; manifest.json is written last.
    """
    import shutil

    from segbench.config import load_submission
    from segbench.manifest import write_manifest
    from segbench.plan import check_submission
    from segbench.prepared import PreparedDataset
    from segbench.submissions import take_over

    entry = load_submission(submission)
    check_submission(entry, submission)
    dataset = PreparedDataset.open(data)
    _refuse_overlap(entry.folder, out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    take_over(entry, dataset, out)
    write_manifest(
        out,
        kind="submission",
        dataset=dataset.name,
        experiment=submission.stem,
        model=None,
        display_name=entry.display_name or submission.stem.replace("_", " "),
        seed=0,
        split=entry.split,
        digests={"data": dataset.digest},
    )


def _refuse_overlap(folder: Path, out: Path) -> None:
    from segbench.errors import ConfigError

    source, target = folder.resolve(), out.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise ConfigError(
            f"--out: {out} and the folder of predictions {folder} overlap",
            fix="give --out a folder of its own",
        )
