"""``segbench protocols``: what every score means, in words and as data."""

from __future__ import annotations

from typing import Any

import click

from segbench.cli import output

TASKS = ("semantic", "instance", "panoptic")


@click.command()
@click.option("--task", type=click.Choice(TASKS), help="Only these.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("name", required=False)
def protocols(name: str | None, task: str | None, as_json: bool) -> None:
    """List the protocols, or show the rule and source of one."""
    from typing import cast

    from segbench.core.types import Task
    from segbench.evaluation import protocol

    chosen = cast("Task | None", task)
    found = protocol.protocols(task=chosen)
    if name is not None:
        found = (protocol.get_protocol(name, task=chosen),)
    if as_json:
        rows = [each.as_dict() for each in found]
        output.json_out(rows[0] if name is not None else rows)
    elif name is not None:
        output.facts(_facts(found[0]))
    else:
        rows = [_row(each) for each in found]
        output.table(rows, list(rows[0]), title=f"{len(rows)} protocols")


def _row(each: Any) -> dict[str, Any]:
    return {
        "protocol": each.id,
        "version": each.version,
        "task": each.task,
        "classes": each.num_classes,
        "rule": each.rule,
        "source": each.source,
    }


def _facts(each: Any) -> dict[str, Any]:
    facts = {**_row(each), "title": each.title}
    if each.task == "semantic":
        facts |= {"label maps": f"{each.labels.name}: {each.labels.meaning}"}
    if each.boundary_rule:
        facts["with --boundary"] = each.boundary_rule
    return facts
