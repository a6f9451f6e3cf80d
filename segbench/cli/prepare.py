"""``segbench prepare``: raw files to a prepared dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from segbench.cli import output
from segbench.cli.download import RAW, parse_options


@click.command()
@click.argument("name")
@RAW
@click.option("--out", type=output.PATH, help="Folder of the prepared form.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes; default: one for each core."
)
@click.option(
    "--bad-images", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
    help="What becomes of images that cannot be used.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print dataset.json.")
def prepare(
    name: str, raw: Path | None, out: Path | None, options: tuple[str, ...],
    workers: int | None, bad_images: Literal["fail", "skip"], as_json: bool,
) -> None:  # fmt: skip
    """Turn dataset NAME into the one on-disk form (default: results/data/NAME).

    The command can be stopped and repeated: images that are done stay done.
    """
    from segbench.core.pool import available_cores
    from segbench.core.progress import say
    from segbench.datasets import prepare_dataset
    from segbench.datasets.download.raw_folder import downloaded_raw

    target = out or Path("results/data") / name
    dataset = prepare_dataset(
        name, target, raw=raw or downloaded_raw(name), options=parse_options(options),
        workers=workers or available_cores(), bad_images=bad_images,
    )  # fmt: skip
    if as_json:
        output.json_out(dataset.description)
    splits = ", ".join(f"{k} {v}" for k, v in dataset.description["splits"].items())
    say(f"{name}: prepared in {target} ({splits})")
