"""``segbench redo``: a row of the board is taken away, so that the next launch makes it anew."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from segbench.cli.collect import CONFIG

if TYPE_CHECKING:
    from segbench.workflow.plan import Plan
    from segbench.workflow.redo import Stage


@click.command()
@click.argument("row")
@click.option(
    "--from", "stage", type=click.Choice(["train", "predict", "evaluate"]),
    help="First stage to repeat; default: the first that the row has.",
)  # fmt: skip
@CONFIG
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def redo(row: str, stage: str | None, config: Path, yes: bool) -> None:
    """Take away what ROW (dataset/experiment/seedK) has made, its training state included.

    Only files that segbench wrote are removed, after a question. The next `segbench run` makes
    them anew. Refused while a launch writes into the results folder.
    """
    from segbench.core.progress import say
    from segbench.workflow.launch import own
    from segbench.workflow.plan import load_plan
    from segbench.workflow.redo import files_from, find_row, first_stage, remove, untrained

    plan = load_plan(config)
    cell = find_row(plan, row)
    first = first_stage(cell, cast("Stage | None", stage))
    if not plan.results.is_dir():
        return say(f"nothing to take away: {plan.results} does not exist")
    with own(plan.results, shlex.join(["segbench", *sys.argv[1:]])):
        files = files_from(plan, cell, first)
        if not files:
            return say(f"nothing to take away: {row} has no files from {first} on")
        _show(plan, files)
        if not yes:
            click.confirm("Remove them?", abort=True, err=True)
        with untrained(plan, cell) if first == "train" else nullcontext():
            remove(files_from(plan, cell, first), plan.results)
    return say(f"removed; `segbench run --config {config}` makes them anew")


def _show(plan: Plan, files: list[Path]) -> None:
    """Say which files will go: one line a folder, with their number and size."""
    from segbench.core.progress import say

    numbers, sizes = Counter[Path](), Counter[Path]()
    for file in files:
        numbers[file.parent] += 1
        sizes[file.parent] += file.stat().st_size
    for folder, number in numbers.items():
        names = ", ".join(sorted(f.name for f in files if f.parent == folder)[:3])
        more = ", ..." if number > 3 else ""
        shown = folder.relative_to(plan.results)
        say(f"  {shown}: {number} files, {sizes[folder] / 1e6:.1f} MB ({names}{more})")
