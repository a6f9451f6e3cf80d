"""``segbench collect`` and ``segbench report``: from records to the board."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), default=Path("config.yaml"), show_default=True
)


@click.command()
@CONFIG
@click.option("--results", type=click.Path(path_type=Path), help="Instead of the config's folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: RESULTS/table.json.")
def collect(config: Path, results: Path | None, out: Path | None) -> None:
    """Gather records, profiles and failures into table.json and table.csv."""
    from segbench.plan import load_plan
    from segbench.progress import say
    from segbench.results import write_table

    plan = load_plan(config, results=results)
    target = out or plan.results / "table.json"
    table = write_table(plan, target)
    bad = [cell for cell in table["cells"] if cell["status"] != "ok"]
    say(f"{target}: {len(table['cells'])} cells, {len(bad)} without a score")
    for cell in bad:
        name = "/".join((cell["dataset"], cell["experiment"], f"seed{cell['seed']}", cell["task"]))
        say(f"  {cell['status'].replace('_', ' ')}: {name}: {cell['reason']}")


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the site.")
def report(table: Path, out: Path) -> None:
    """Render TABLE (a table.json) as a static site that opens from disk."""
    from segbench.html import render_report
    from segbench.progress import say

    index = render_report(table, out)
    say(f"open {index}")
