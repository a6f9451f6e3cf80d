"""``segbench collect`` and ``segbench report``: from records to the board."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli import output

CONFIG = click.option("--config", type=output.PATH, default=Path("config.yaml"), show_default=True)


@click.command()
@CONFIG
@click.option("--results", type=output.PATH, help="Instead of the config's folder.")
@click.option("--out", type=output.PATH, help="Default: RESULTS/table.json.")
def collect(config: Path, results: Path | None, out: Path | None) -> None:
    """Gather records, profiles and failures into table.json and table.csv."""
    from segbench.core.older_folders import is_table
    from segbench.core.output_files import output_json, refuse_foreign_csv
    from segbench.core.paths import Input
    from segbench.core.progress import say
    from segbench.workflow.plan import load_plan
    from segbench.workflow.results import write_table

    plan = load_plan(config, results=results)
    target = out or plan.results / "table.json"
    place = output_json(
        target, is_table, "a table of segbench collect", inputs=[Input(config, "--config")]
    )
    refuse_foreign_csv(place.with_suffix(".csv"))
    table = write_table(plan, place)
    bad = [cell for cell in table["cells"] if cell["status"] != "ok"]
    say(f"{target}: {len(table['cells'])} cells, {len(bad)} without a score")
    for cell in bad:
        name = "/".join((cell["dataset"], cell["experiment"], f"seed{cell['seed']}", cell["task"]))
        say(f"  {cell['status'].replace('_', ' ')}: {name}: {cell['reason']}")
