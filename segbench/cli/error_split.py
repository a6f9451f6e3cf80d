"""``segbench score --errors``: where the AP50 of instance predictions is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segbench.cli import output

_SHAPES = {"segm": "masks", "bbox": "boxes"}


def check(task: str, truth: Path) -> None:
    """Refuse files whose errors cannot be split; ``ConfigError``."""
    from segbench.core.errors import ConfigError

    if task != "instance" or truth.suffix != ".json":
        raise ConfigError(
            "--errors splits the errors of COCO instance files only",
            fix="use it with --task instance and COCO JSON for --gt and --pred",
        )


def show(errors: dict[str, Any]) -> None:
    """Print one row an error."""
    rows = [_row(kind, errors) for kind in errors["segm"]["dap50"]]
    click.echo("")
    output.table(rows, list(rows[0]), title="AP50 that mending one kind of error alone would give")


def _row(kind: str, errors: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"error": kind.replace("_", " ")}
    for shape, title in _SHAPES.items():
        gain = errors[shape]["dap50"][kind]
        row[f"{title}: AP50 gained"] = None if gain is None else f"{100 * gain:.2f}"
        row[f"{title}: number"] = errors[shape]["counts"].get(kind)
    return row
