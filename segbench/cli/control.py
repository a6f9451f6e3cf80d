"""``segbench control``: predictions of a control row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli.predict import DATA, OUT, SPLIT

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("name")
@DATA
@SPLIT
@OUT
def control(name: str, data: Path, split: str, out: Path) -> None:
    """Write the predictions of a control row: oracle, majority_class, all_void, shifted_labels."""
    from segbench.core.errors import ConfigError, did_you_mean
    from segbench.core.output_folder import replacing
    from segbench.core.paths import Input
    from segbench.formats.manifest import write_manifest
    from segbench.formats.prepared import PreparedDataset
    from segbench.workflow.config import CONTROLS
    from segbench.workflow.controls import write_control

    if name not in CONTROLS:
        raise ConfigError(
            f"unknown control '{name}'.{did_you_mean(name, CONTROLS)}",
            fix=f"controls are {', '.join(CONTROLS)}",
        )
    dataset = PreparedDataset.open(data)
    begin = time.monotonic()
    with replacing(out, "predictions", inputs=(Input(data, "--data"),)) as building:
        write_control(name, dataset, split, building)
        write_manifest(
            building,
            kind="control",
            dataset=dataset.name,
            experiment=name,
            model=None,
            display_name=name.replace("_", " "),
            seed=0,
            split=split,
            digests={"data": dataset.digest},
            wall_time_s={"predict": round(time.monotonic() - begin, 2)},
        )
