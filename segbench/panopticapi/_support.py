"""What the modules of this package share: errors, files, processes, command lines."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from segbench.core.errors import ConfigError, DataError
from segbench.core.faults import outcome
from segbench.core.files import atomic_open, read_json
from segbench.core.types import IntArray

Categories = dict[int, dict[str, Any]]
"""Category id -> ``id``, ``name``, ``isthing`` and ``color`` as in a COCO panoptic JSON."""
PathLike = str | Path
Item = TypeVar("Item")
Result = TypeVar("Result")
_ITEMS_A_PROCESS = 64
"""Fewer items than this are not worth starting a process for."""


class PanopticKeyError(DataError, KeyError):
    """A segment, category or file that one side names and the other lacks."""


def split(items: Sequence[Item], parts: int) -> list[Sequence[Item]]:
    """Cut a sequence into ``parts`` runs whose lengths differ by one at most, longer first."""
    size, longer = divmod(len(items), parts)
    bounds = np.cumsum([0] + [size + (i < longer) for i in range(parts)]).tolist()
    return [items[a:b] for a, b in itertools.pairwise(bounds)]


def in_parallel(
    single_core: Callable[..., Result], items: Sequence[Item], *arguments: Any, **keywords: Any
) -> list[Result]:
    """Call ``single_core(number, part of items, ...)`` for parts of items, in their order.

    One part is worked on here; more go to as many processes, which are closed again.
    """
    workers = max(1, min(os.cpu_count() or 1, len(items) // _ITEMS_A_PROCESS))
    if workers == 1:
        return [single_core(0, items, *arguments, **keywords)]
    call = partial(_apply, single_core, arguments, keywords)
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(call, range(workers), split(items, workers)))


def _apply(
    single_core: Callable[..., Result],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    number: int,
    items: Sequence[Item],
) -> Result:
    return single_core(number, items, *arguments, **keywords)


def by_id(categories: Sequence[dict[str, Any]]) -> Categories:
    """Return category entries by their id."""
    return {category["id"]: category for category in categories}


def read_category_list(
    categories_json_file: PathLike | None, fallback: dict[str, Any], *, source: PathLike
) -> list[dict[str, Any]]:
    """Return the categories of a file, or of a JSON that carries complete ones itself.

    Raises:
        ConfigError: No file is named and ``fallback`` has none with ``isthing`` and ``color``.
        DataError: The file is no list of categories.
    """
    if categories_json_file is not None:
        found = read_json(Path(categories_json_file))
        if not isinstance(found, list):
            raise DataError(f"{categories_json_file}: expected a list of categories")
        return found
    found = fallback.get("categories") or []
    if not found or not all({"isthing", "color"} <= entry.keys() for entry in found):
        raise ConfigError(
            f"{source} has no categories with 'isthing' and 'color'",
            fix="name a JSON list of categories: --categories_json_file FILE",
        )
    return list(found)


def folder_beside(json_file: PathLike, folder: PathLike | None, *, make: bool = False) -> Path:
    """Return the folder of PNGs of a JSON: the one named, or X for X.json."""
    chosen = Path(str(json_file).rsplit(".", 1)[0]) if folder is None else Path(folder)
    if make:
        chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def png_name(file_name: str, *, strict_compat: bool) -> str:
    """Return the name of an image's PNG; panopticapi cuts at the first dot, not the last."""
    stem = file_name.split(".")[0] if strict_compat else file_name.rsplit(".", 1)[0]
    return f"{stem}.png"


def write_rgb(path: Path, rgb: IntArray) -> None:
    """Write a uint8 [H, W, 3] array as PNG, whole or not at all."""
    from PIL import Image

    with atomic_open(path) as stream:
        Image.fromarray(rgb.astype(np.uint8)).save(stream, format="PNG")


def plain_json(value: Any) -> str:
    """Return JSON of a value that may hold NumPy numbers."""
    return json.dumps(value, default=lambda item: item.tolist())


def say(text: str = "") -> None:
    """Write a line to standard output."""
    click.echo(text)


def run_command(parser: argparse.ArgumentParser, command: Callable[..., Any]) -> None:
    """Parse the command line, call ``command`` with it, end with a message on an error."""
    parser.add_argument(
        "--strict-compat",
        action="store_true",
        help="do exactly what panopticapi does, its mistakes included",
    )

    finished = False

    def work() -> None:
        nonlocal finished
        command(**vars(parser.parse_args()))
        finished = True

    code = outcome(work)
    if code or not finished:
        sys.exit(code)


def required(parser: argparse.ArgumentParser, **files: str) -> None:
    """Add options that must be given, with their help."""
    for name, text in files.items():
        parser.add_argument(f"--{name}", required=True, help=text)
