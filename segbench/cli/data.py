"""``segbench download`` and ``segbench prepare``: from raw files to the one on-disk form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segbench.cli import output

RAW = click.option(
    "--raw", type=click.Path(path_type=Path), help="Folder with the dataset's original files."
)


@click.command()
@click.argument("name")
@RAW
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Record to write.")
def download(name: str, raw: Path | None, out: Path) -> None:
    """Make sure the original files of dataset NAME are there and record what was found."""
    from segbench.datasets import dataset_info
    from segbench.errors import DataError
    from segbench.formats import write_json
    from segbench.progress import say

    info = dataset_info(name)
    if raw is None and info.layout:
        raise DataError(
            f"dataset '{name}' is not embedded: its files must be supplied as a folder\n"
            f"{info.layout}",
            fix=f"set datasets: {{{name}: {{raw: FOLDER}}}} in the configuration, or pass --raw",
        )
    if raw is not None and not raw.is_dir():
        raise DataError(f"dataset '{name}': {raw} is not a folder", fix="correct the path in raw:")
    files = sorted(p for p in raw.rglob("*") if p.is_file()) if raw else []
    listing = [[p.relative_to(raw).as_posix(), p.stat().st_size] for p in files if raw]
    write_json(out, {"dataset": name, "files": len(listing), "listing": listing}, indent=None)
    say(f"{name}: {len(listing)} files in {raw}" if raw else f"{name}: embedded, no download")


@click.command()
@click.argument("name")
@RAW
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the prepared form.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print dataset.json.")
def prepare(
    name: str, raw: Path | None, out: Path | None, options: tuple[str, ...], as_json: bool
) -> None:
    """Turn dataset NAME into the one on-disk form (default: results/data/NAME)."""
    from segbench.datasets import prepare_dataset
    from segbench.progress import say

    target = out or Path("results/data") / name
    dataset = prepare_dataset(name, target, raw=raw, options=parse_options(options))
    if as_json:
        output.json_out(dataset.description)
    splits = ", ".join(f"{k} {v}" for k, v in dataset.description["splits"].items())
    say(f"{name}: prepared in {target} ({splits})")


def parse_options(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of repeated KEY=VALUE options, read as YAML."""
    import yaml

    pairs = [text.partition("=") for text in options]
    bad = [key for key, equals, _ in pairs if not equals]
    if bad:
        raise click.BadParameter(f"'{bad[0]}' is not KEY=VALUE", param_hint="--option")
    return {key: yaml.safe_load(value) for key, _, value in pairs}
