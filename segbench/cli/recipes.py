"""``segbench recipes``: the recipes of a checkout, and the keys in which a family's differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli import output

if TYPE_CHECKING:
    from segbench.workflow.recipes import RecipeFile

KEYS = ("recipe", "model", "task", "schedule", "ablation_of")


@click.command()
@click.argument("family", required=False)
@click.option("--differences", "differ", is_flag=True, help="Print the keys in which they differ.")
@click.option("--dataset", help="Only the recipes of this dataset.")
@click.option(
    "--folder", type=output.PATH, default=Path("workflow/experiments"), show_default=True,
    help="Folder of recipes, <dataset>/<experiment>.yaml.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recipes(
    family: str | None, differ: bool, dataset: str | None, folder: Path, as_json: bool
) -> None:
    """List the recipes, or the keys in which those of each family differ.

    FAMILY is a file of segbench/models without .py, such as lpsnet. --differences names the keys
    for each family and prints their values for each of its datasets; keys that change no number
    are left out.
    """
    from segbench.workflow.recipes import load_recipes

    found = load_recipes(folder, family=family, dataset=dataset)
    if differ:
        _differences(found, as_json)
    elif as_json:
        output.json_out([each.as_dict() for each in found])
    else:
        output.table([_row(each) for each in found], KEYS, title=f"{len(found)} recipes")


def _row(each: RecipeFile) -> dict[str, Any]:
    row = each.as_dict()
    schedule = (
        f"{row['iterations']:,} x {row['batch_size']}, {row['optimizer']} {row['base_lr']:g}, "
        f"{row['schedule']}"
    )
    base = row["ablation_of"]
    ablation = base and f"{base}: {', '.join(row['ablation_keys'])}"
    return {**row, "schedule": schedule, "ablation_of": ablation}


def _differences(found: Sequence[RecipeFile], as_json: bool) -> None:
    from segbench.workflow.recipes import differences

    families = _groups(found, lambda each: each.family)
    keys = {family: differences(group) for family, group in families.items()}
    if as_json:
        output.json_out(keys)
        return
    for family, group in families.items():
        differing = f"{len(group)} recipes, differing in {', '.join(keys[family])}"
        click.echo(f"{family}: {differing if len(group) > 1 else 'one recipe'}")
        for dataset, rows in _groups(group, lambda each: each.recipe.dataset).items():
            if len(rows) > 1:
                title = f"{family} on {dataset}: {len(rows)} recipes"
                output.table(_lines(differences(rows)), ("key", "value", "recipes"), title=title)


def _groups(
    found: Sequence[RecipeFile], name_of: Callable[[RecipeFile], str]
) -> dict[str, list[RecipeFile]]:
    groups: dict[str, list[RecipeFile]] = {}
    for each in sorted(found, key=name_of):
        groups.setdefault(name_of(each), []).append(each)
    return groups


def _lines(keys: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield one line for each value of each key, with the recipes that have it."""
    for key, row in keys.items():
        shared: dict[str, list[str]] = {}
        for name, value in row.items():
            text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
            shared.setdefault(text, []).append(name.rpartition("/")[2])
        for number, (text, names) in enumerate(shared.items()):
            shown = "" if number else key
            yield {"key": shown, "value": text, "recipes": ", ".join(names)}
