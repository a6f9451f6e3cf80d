"""``segbench download`` and ``segbench prepare``: from raw files to the one on-disk form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

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
    from segbench.core.older_folders import is_raw_record
    from segbench.core.output_files import output_json
    from segbench.core.progress import say
    from segbench.datasets import dataset_info
    from segbench.datasets.download.archives import Mirror
    from segbench.datasets.download.digests import read_digests
    from segbench.datasets.download.raw_folder import RAW_ROOT, absent_archives, provide_raw
    from segbench.formats.label_maps import write_json

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


def parse_options(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of repeated KEY=VALUE options, read as YAML."""
    from segbench.core.yaml_reader import read_yaml

    pairs = [text.partition("=") for text in options]
    bad = [key for key, equals, _ in pairs if not equals]
    if bad:
        raise click.BadParameter(f"'{bad[0]}' is not KEY=VALUE", param_hint="--option")
    return {key: read_yaml(value, f"--option {key}").values for key, _, value in pairs}
