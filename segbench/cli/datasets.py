"""``segbench datasets``: what is known, and what is prepared here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segbench.cli import output


def _row(name: str, root: Path) -> dict[str, Any]:
    from segbench.datasets import dataset_info

    info = dataset_info(name)
    prepared = root / name / "dataset.json"
    return {
        "name": name,
        "title": info.display_name,
        "tasks": ", ".join(info.tasks),
        "classes": len(info.categories),
        "splits": ", ".join(f"{k} {v or '?'}" for k, v in info.splits.items()),
        "source": "user folder" if info.layout else "embedded",
        "licence": info.licence,
        "prepared": str(prepared.parent) if prepared.exists() else None,
    }


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path("results/data"), show_default=True,
    help="Folder of prepared datasets.",
)  # fmt: skip
@click.pass_context
def datasets(ctx: click.Context, as_json: bool, root: Path) -> None:
    """List the datasets."""
    if ctx.invoked_subcommand is not None:
        return
    from segbench.datasets import dataset_infos

    rows = [_row(name, root) for name in dataset_infos()]
    if as_json:
        output.json_out(rows)
    else:
        output.table(rows, list(rows[0]), title=f"{len(rows)} datasets")


@datasets.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show classes, splits, protocols, licence and citation of one dataset."""
    import dataclasses

    from segbench.datasets import dataset_info

    info = dataset_info(name)
    if as_json:
        output.json_out(dataclasses.asdict(info))
        return
    simple = {
        "name": info.name, "title": info.display_name, "description": info.description,
        "tasks": ", ".join(info.tasks), "splits": dict(info.splits),
        "protocols": dict(info.protocols), "options": dict(info.options),
        "licence": info.licence, "citation": info.citation, "homepage": info.homepage,
        "layout": info.layout or "embedded: nothing to download",
    }  # fmt: skip
    output.facts(simple)
    rows = [
        {"train id": i, "id": c.id, "name": c.name, "kind": "thing" if c.isthing else "stuff",
         "colour": "#{:02x}{:02x}{:02x}".format(*c.color)}
        for i, c in enumerate(info.categories)
    ]  # fmt: skip
    output.table(rows, list(rows[0]), title="classes")
