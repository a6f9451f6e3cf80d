"""``segbench doctor``: one block that says what this machine can run, to paste in an issue."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from segbench.cli import output


@click.command()
@click.option("--results", type=output.PATH, default=Path("results"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(results: Path, as_json: bool) -> None:
    """Check packages, GPU, disk and Slurm; exit 1 when something needed is missing."""
    from segbench import __version__
    from segbench.core import provenance
    from segbench.workflow.launch import launch_finding
    from segbench.workflow.machine import findings
    from segbench.workflow.slurm import check_slurm

    rows = [*findings(results), launch_finding(results), *check_slurm()]
    commit, dirty = provenance.git_commit()
    about = {
        "segbench": __version__,
        "commit": f"{commit}{' (changed)' if dirty else ''}" if commit else None,
        **provenance.hardware(),
    }
    if as_json:
        output.json_out({"about": about, "findings": rows})
    else:
        output.facts(about)
        output.table(rows, ("check", "status", "detail"))
    sys.exit(1 if any(row["status"] == "problem" for row in rows) else 0)
