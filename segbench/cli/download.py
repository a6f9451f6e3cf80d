"""``segbench download`` and ``segbench prepare``: from raw files to the one on-disk form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segbench.cli import output

RAW = click.option("--raw", type=output.PATH, help="Folder with the dataset's original files.")


@click.command()
@click.argument("name")
@RAW
@click.option("--out", type=output.PATH, help="Record to write (results/raw/NAME.json).")
@click.option("--archive", "names", multiple=True, help="Only this archive; repeatable.")
@click.option(
    "--url-base",
    envvar="SEGBENCH_MIRROR",
    show_envvar=True,
    metavar="URL",
    help="Mirror: <URL>/NAME/<archive> in place of the publisher's addresses.",
)
@click.option(
    "--digests",
    envvar="SEGBENCH_MIRROR_DIGESTS",
    show_envvar=True,
    type=output.PATH,
    metavar="FILE",
    help="Your sha256sum list; what it names need not be what the publisher states.",
)
@click.option("--keep-archives/--no-keep-archives", default=True, help="Keep packed archives.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of prepare.")
def download(
    name: str,
    raw: Path | None,
    out: Path | None,
    names: tuple[str, ...],
    url_base: str | None,
    digests: Path | None,
    keep_archives: bool,
    options: tuple[str, ...],
) -> None:
    """Bring the original files of dataset NAME here, verified and unpacked.

    Archives go to results/raw/NAME, or to the folder of --raw. The command can be stopped and
    repeated: it goes on where it was. A folder that holds the dataset already is left as it is.

    Cityscapes wants CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD in the environment; proxies are
    taken from HTTPS_PROXY. What cannot be downloaded is listed, with the folder to put it into.
    """
    from segbench.core.files import write_json
    from segbench.core.older_folders import is_raw_record
    from segbench.core.output_files import output_json
    from segbench.core.progress import say
    from segbench.datasets import dataset_info
    from segbench.datasets.download.archives import Mirror
    from segbench.datasets.download.digests import read_digests
    from segbench.datasets.download.raw_folder import RAW_ROOT, absent_archives, provide_raw

    info = dataset_info(name)
    mirror = Mirror(url_base or "", read_digests(digests) if digests else {})
    place = output_json(
        out or RAW_ROOT / f"{name}.json", is_raw_record, "a record of segbench download"
    )
    record = provide_raw(
        info, raw, names=names, mirror=mirror, keep=keep_archives, options=parse_options(options)
    )
    if record["raw"] is None:
        say(f"{name}: embedded, no download")
    else:
        say(f"{name}: {record['files']} files in {record['raw']}")
        absent = absent_archives(info, Path(record["raw"]))
        if absent:
            say(f"{name}: not complete without {', '.join(absent)}; no record is written")
            return
    write_json(place, record, indent=None)


def parse_options(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of repeated KEY=VALUE options, read as YAML."""
    from segbench.core.yaml_reader import read_yaml

    pairs = [text.partition("=") for text in options]
    bad = [key for key, equals, _ in pairs if not equals]
    if bad:
        raise click.BadParameter(f"'{bad[0]}' is not KEY=VALUE", param_hint="--option")
    return {key: read_yaml(value, f"--option {key}").values for key, _, value in pairs}
