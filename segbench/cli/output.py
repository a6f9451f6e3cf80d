"""Printing for people (rich tables) and for programs (JSON)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click


class _Expanded(click.Path):
    """A path in which ``~`` and variables count, where a shell has left them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from segbench.core.paths import given

        name = "path" if param is None else (*param.opts, "path")[0]
        return super().convert(given(value, name), param, ctx)


PATH = _Expanded(path_type=Path)
workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that read and count label maps; the scores are the same for any number.",
)


def json_out(value: Any) -> None:
    """Print JSON to standard output."""
    click.echo(json.dumps(value, indent=1, default=str))


def table(rows: Iterable[Mapping[str, Any]], keys: Sequence[str], *, title: str = "") -> None:
    """Print rows as a table; None is a dash."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title or None, title_justify="left", header_style="bold")
    for key in keys:
        grid.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        grid.add_row(*("-" if row.get(key) is None else str(row[key]) for key in keys))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(grid)


def facts(values: Mapping[str, Any]) -> None:
    """Print name and value, one a line."""
    width = max(len(key) for key in values)
    for key, value in values.items():
        click.echo(f"{key.replace('_', ' '):<{width}}  {'-' if value is None else value}")
