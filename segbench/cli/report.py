"""``segbench report``: a table to a site."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli import output


@click.command()
@click.argument("table", type=output.PATH)
@click.option("--out", type=output.PATH, required=True, help="Folder of the site.")
@click.option("--results", type=output.PATH, help="Results folder; default: that of TABLE.")
def report(table: Path, out: Path, results: Path | None) -> None:
    """Render TABLE (a table.json) as a static site that opens from disk."""
    from segbench.core.progress import say
    from segbench.report.render import render_report

    index = render_report(table, out, results=results)
    say(f"open {index}")
