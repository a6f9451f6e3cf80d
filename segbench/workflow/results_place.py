"""Where a configuration may put its results: a folder of its own, apart from all that is read.

The workflow makes files anew without asking, so what it would replace is looked at first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from segbench.core.errors import ConfigError
from segbench.core.output_files import refuse_foreign_csv
from segbench.core.output_folder import check_replaceable, read_marker
from segbench.core.paths import (
    CHECKOUT,
    SOURCES,
    Input,
    holds,
    is_checkout,
    output_place,
    resolved,
    same,
)
from segbench.workflow.config import Config

OWN_FOLDERS = ("data", "state", "logs", "report", "partial")
"""Folders of results in which nothing that is read may lie."""
_TABLE = re.compile(rb'\s*\{\s*"schema"\s*:\s*\d+')


def check_results(config: Config, source: str) -> None:
    """Refuse a results folder in which anything of the user's could be lost.

    Args:
        config: The configuration.
        source: What names the folder in messages, as ``config.yaml:1: results``.

    Raises:
        ConfigError: It is a file, holds the checkout, the home or the current folder, overlaps
            an input, or has a report or table that segbench has not written.
    """
    place = output_place(config.results, option=source, inputs=_inputs(config), replaced=False)
    fix = "give results a folder of its own"
    for checkout in (CHECKOUT, Path.cwd()):
        own = [checkout / name for name in SOURCES] if is_checkout(checkout) else []
        for folder in own:
            if same(place, folder.resolve()) or holds(folder.resolve(), place):
                raise ConfigError(
                    f"{source}: {config.results} lies in {folder.name}/ of the checkout", fix=fix
                )
    for item in _inputs(config):
        for name in OWN_FOLDERS:
            where, read = place / name, resolved(item)
            if same(where, read) or holds(where, read):
                raise ConfigError(
                    f"{source}: the input {item.what} ({item.path}) lies in {name}/ of "
                    f"{config.results}, where results are written",
                    fix=fix,
                )
    _refuse_foreign(config.results, place, source)


def _inputs(config: Config) -> Iterator[Input]:
    yield Input(config.experiments_folder, "experiments_folder", may_hold=True)
    yield Input(config.submissions_folder, "submissions_folder", may_hold=True)
    for name, dataset in config.datasets.items():
        if dataset.raw is not None:
            yield Input(dataset.raw, f"datasets.{name}.raw")


def _refuse_foreign(results: Path, place: Path, source: str) -> None:
    marker = read_marker(place / "report")
    if marker is None or marker.kind != "report":
        check_replaceable(results / "report", "report", option=source)
    table = place / "table.json"
    if table.is_file() and table.stat().st_size:
        with table.open("rb") as stream:
            if not _TABLE.match(stream.read(200)):
                raise ConfigError(
                    f"{source}: {results / 'table.json'} is there and is no table of segbench",
                    fix="nothing was touched; move it away, or give results a folder of its own",
                )
    refuse_foreign_csv(place / "table.csv", source)
