"""``segbench explain``: the same predictions under every rule, and why the numbers differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli import output
from segbench.cli.output import PATH

if TYPE_CHECKING:
    from segbench.evaluation.explain import Explanation

_SHOWN = 30
_PIXELS = ("truth", "predicted", "hits", "predicted_on_void", "predicted_as_void")


@click.command()
@click.option("--task", type=click.Choice(["semantic"]), default="semantic", show_default=True)
@click.option("--gt", type=PATH, required=True, help="Folder of label maps.")
@click.option("--pred", type=PATH, required=True, help="Folder of label maps of the same names.")
@click.option("--num-classes", type=click.IntRange(1, 255), help="Number of train ids.")
@click.option(
    "--protocol", default="semantic-pooled", show_default=True,
    help="Its numbering of classes is used to read the label maps.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    task: str, gt: Path, pred: Path, num_classes: int | None, protocol: str, as_json: bool
) -> None:
    """Score label maps under every semantic rule and name what makes the difference.

    Absent classes, classes that are predicted but never true, and void pixels are what tools
    count differently.
    """
    from segbench.evaluation.count_files import class_count
    from segbench.evaluation.explain import explain as explain_counts
    from segbench.evaluation.protocol import get_protocol
    from segbench.evaluation.semantic.folders import count_folder

    chosen = get_protocol(protocol, task="semantic")
    found = count_folder(gt, pred, protocol=chosen, num_classes=class_count(chosen, num_classes))
    result = explain_counts(found.counts, chosen.class_names)
    if as_json:
        output.json_out({"task": task, **result.as_dict(), "warnings": found.warnings})
        return
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    _print(result)


def _print(result: Explanation) -> None:
    rows = [_rule(row) for row in result.rules]
    output.table(rows, list(rows[0]), title="the same predictions under every rule")
    click.echo("\nwhat makes the difference")
    for cause in result.causes or ["nothing: every rule sees the same pixels and classes"]:
        click.echo(f"- {cause}")
    classes = [_class(row) for row in result.classes if _differs(row)]
    if classes:
        click.echo("")
        title = "classes whose IoU depends on the rule (pixels; IoU lowest and highest)"
        output.table(classes[:_SHOWN], list(classes[0]), title=title)
    if len(classes) > _SHOWN:
        click.echo(f"and {len(classes) - _SHOWN} more; --json lists all")


def _rule(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "rule": row["rule"],
        "mIoU": _percent(row["miou"]),
        "pixel accuracy": _percent(row["pixel_accuracy"]),
        "classes in mean": row["classes_in_mean"],
        "also the rule of": ", ".join(row["used_by"][1:]) or None,
        "note": row["note"] or None,
    }


def _class(row: dict[str, Any]) -> dict[str, Any]:
    known = [value for value in row["iou"].values() if value is not None]
    return {
        "class": row["name"],
        "state": row["state"],
        **{key: row[key] for key in _PIXELS},
        "lowest": _percent(min(known, default=None)),
        "highest": _percent(max(known, default=None)),
    }


def _differs(row: dict[str, Any]) -> bool:
    """Whether a class is worth a row; absent ones are named among the causes."""
    return row["state"] != "absent" and len(set(row["iou"].values())) > 1


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.2f}"
