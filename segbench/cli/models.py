"""``segbench models``: the registered architectures, read without importing torch."""

from __future__ import annotations

from typing import Any

import click

from segbench.cli import output

DEFAULT_CLASSES = {"semantic": "21", "instance": "91", "panoptic": "80+53"}
STAGE_KEYS = ("stage", "channels", "stride", "field", "offset", "params", "gmacs")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--task", type=click.Choice(["semantic", "instance", "panoptic"]), help="Only these.")
@click.pass_context
def models(ctx: click.Context, as_json: bool, task: str | None) -> None:
    """List the architectures."""
    if ctx.invoked_subcommand is not None:
        return
    from segbench.models.registry import model_infos

    rows = [info.as_dict() for info in model_infos().values() if task in (None, info.task)]
    if as_json:
        output.json_out(rows)
    else:
        keys = ("name", "task", "display_name", "year", "backbone", "size")
        output.table(rows, keys, title=f"{len(rows)} models")


@models.command()
@click.argument("name")
@click.option("--num-classes", help="As for `segbench profile`; default: 21, 91 or 80+53 by task.")
@click.option(
    "--size", nargs=2, type=click.IntRange(min=1), default=(512, 512), show_default=True,
    metavar="H W", help="Image for which multiply-adds are counted.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, num_classes: str | None, size: tuple[int, int], as_json: bool) -> None:
    """Show one architecture: paper, options, and what each stage costs and sees.

    STRIDE is the distance in pixels between neighbouring positions of a stage's output, FIELD the
    side of what a position can depend on, OFFSET where the first position's centre lies.
    """
    from segbench.cli.profile import classes_of
    from segbench.core.errors import ConfigError
    from segbench.models.registry import model_info

    info = model_info(name)
    classes = classes_of(name, num_classes or DEFAULT_CLASSES[info.task], None)
    from segbench.models.profiling.stages import describe_model

    try:
        found = describe_model(name, classes, input_size=size)
    except ValueError as error:
        raise ConfigError(f"model '{name}' at {size[0]}x{size[1]}: {error}") from error
    facts = {**info.as_dict(), "num_classes": "+".join(str(n) for n in classes), **found}
    if as_json:
        output.json_out(facts)
        return
    stages = facts.pop("stages")
    options = facts.pop("options")
    facts["options"] = ", ".join(f"{key}={value!r}" for key, value in options.items()) or None
    facts["also"] = ", ".join(info.also) or None
    facts["input_size"] = "x".join(str(side) for side in size)
    output.facts(facts)
    output.table([_printed(row) for row in stages], STAGE_KEYS, title=f"{len(stages)} stages")


def _printed(row: dict[str, Any]) -> dict[str, Any]:
    """Write pairs as HxW and large numbers with commas."""
    text = {k: "x".join(f"{n}" for n in v) if isinstance(v, list) else v for k, v in row.items()}
    return {**text, "params": None if row["params"] is None else f"{row['params']:,}"}
