"""``segbench models``: the registered architectures, read without importing torch."""

from __future__ import annotations

import click

from segbench.cli import output


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--task", type=click.Choice(["semantic", "instance", "panoptic"]), help="Only these.")
@click.pass_context
def models(ctx: click.Context, as_json: bool, task: str | None) -> None:
    """List the architectures."""
    if ctx.invoked_subcommand is not None:
        return
    from segbench.registry import model_infos

    rows = [info.as_dict() for info in model_infos().values() if task in (None, info.task)]
    if as_json:
        output.json_out(rows)
    else:
        keys = ("name", "task", "display_name", "year", "backbone", "size")
        output.table(rows, keys, title=f"{len(rows)} models")


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what is known of one architecture."""
    from segbench.registry import model_info

    info = model_info(name).as_dict()
    if as_json:
        output.json_out(info)
    else:
        output.facts(info)
