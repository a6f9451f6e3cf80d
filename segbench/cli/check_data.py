"""``segbench check-data``: everything that is wrong with a dataset, with file names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli import output

if TYPE_CHECKING:
    from segbench.datasets.prepare.checks import Report

DATA_ROOT = Path("results/data")


@click.command("check-data")
@click.argument("target")
@click.option("--raw", type=output.PATH, help="Check these original files of dataset TARGET.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of prepare.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes; default: one for each core."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check_data(
    ctx: click.Context, target: str, raw: Path | None, options: tuple[str, ...],
    workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List all that is wrong with TARGET, a prepared folder or the name of a dataset.

    A name means results/data/NAME if that is prepared, else the original files: the folder of
    --raw or what `segbench download` has put into results/raw/NAME. Nothing is written. The
    exit code is 1 when there are errors; warnings leave it 0.
    """
    from segbench.cli.download import parse_options
    from segbench.core.pool import available_cores

    report = _check(target, raw, parse_options(options), workers or available_cores())
    if as_json:
        output.json_out(report.as_json())
    else:
        _print(report)
    ctx.exit(1 if report.errors else 0)


def _check(target: str, raw: Path | None, options: dict[str, object], workers: int) -> Report:
    from segbench.datasets.download.raw_folder import downloaded_raw
    from segbench.datasets.prepare.checks import check_prepared, check_raw
    from segbench.datasets.prepare.writer import open_sources
    from segbench.formats.prepared import PreparedDataset

    for folder in (Path(target), DATA_ROOT / target):
        if raw is None and (folder / "dataset.json").is_file():
            return check_prepared(PreparedDataset.open(folder), workers=workers)
    if raw is None and Path(target).is_dir():
        PreparedDataset.open(Path(target))
    info, _, folder_of_raw, splits = open_sources(
        target, raw=raw or downloaded_raw(target), options=options
    )
    return check_raw(info, folder_of_raw, splits, workers=workers)


def _print(report: Report) -> None:
    for finding in report.findings:
        click.echo(str(finding))
    images = ", ".join(f"{split} {count}" for split, count in report.images.items())
    place = f" in {report.folder}" if report.folder else ""
    click.echo(
        f"{report.name} ({report.form}{place}): {images}; "
        f"{report.errors} errors, {report.warnings} warnings"
    )
