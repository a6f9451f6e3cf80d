"""``segbench profile``: parameters, multiply-adds, latency and memory of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segbench.cli import output


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``HxW``."""
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdigit() or not width.isdigit() or not int(height) * int(width):
        raise click.BadParameter(f"'{text}' is not HEIGHTxWIDTH, as in 512x1024")
    return int(height), int(width)


def parse_classes(text: str) -> tuple[int, ...]:
    """Parse ``21`` or ``80+53`` (things + stuff)."""
    parts = text.split("+")
    if len(parts) > 2 or not all(part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"'{text}' is neither a number nor THINGS+STUFF, as in 80+53")
    return tuple(int(part) for part in parts)


@click.command()
@click.argument("model")
@click.option(
    "--num-classes", default=None,
    help="Output channels; things + 1 for instance models; THINGS+STUFF for panoptic ones. One "
    "number for a panoptic one that also does semantic counts all its classes.",
)  # fmt: skip
@click.option("--input-size", help="HEIGHTxWIDTH.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Model option.")
@click.option("--full", is_flag=True, help="Also measure latency and peak memory.")
@click.option("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one.")
@click.option("--data", type=output.PATH, help="Take the classes from here.")
@click.option("--out", type=output.PATH, help="Write the JSON here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def profile(
    model: str, num_classes: str | None, input_size: str | None, options: tuple[str, ...],
    full: bool, device: str | None, data: Path | None, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Profile MODEL: a registered id, or an experiment file (with its options and size)."""
    from segbench.core.errors import ConfigError
    from segbench.core.older_folders import is_profile
    from segbench.core.output_files import output_json
    from segbench.core.seal import write_sealed

    place = output_json(out, is_profile, "a profile of segbench") if out else None
    model_id, settings, size, threads = _target(model, options, input_size)
    classes = classes_of(model_id, num_classes, data)
    from segbench.models.profiling.costs import profile_model

    try:
        result = profile_model(
            model_id, classes, input_size=size, options=settings,
            full=full, device=device, threads=threads,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"model '{model_id}' at {size[0]}x{size[1]}: {error}") from error
    if place is not None:
        write_sealed(place, result)
    if as_json:
        output.json_out(result)
    else:
        output.facts({k: v for k, v in result.items() if k not in ("options", "classes")})


def _target(
    model: str, options: tuple[str, ...], input_size: str | None
) -> tuple[str, dict[str, Any], tuple[int, int], int | None]:
    from segbench.cli.download import parse_options
    from segbench.models.registry import model_info
    from segbench.training.recipe import load_recipe

    settings, size, threads = parse_options(options), (512, 512), None
    if model.endswith((".yaml", ".yml")):
        recipe = load_recipe(Path(model))
        model, size, threads = recipe.model, recipe.profile_size, recipe.threads
        settings = {**recipe.model_options, **settings}
    model_info(model)
    return model, settings, parse_size(input_size) if input_size else size, threads


def classes_of(model_id: str, text: str | None, data: Path | None) -> tuple[int, ...]:
    """Return what a model's builder takes, from ``--num-classes`` or a prepared dataset."""
    from segbench.core.errors import ConfigError
    from segbench.formats.prepared import PreparedDataset
    from segbench.models.registry import model_info

    info = model_info(model_id)
    task = info.task
    if text is None and data is not None:
        table = PreparedDataset.open(data).table
        things, stuff = len(table.thing_train_ids), len(table.stuff_train_ids)
        return {"semantic": (len(table),), "instance": (things + 1,)}.get(task, (things, stuff))
    if text is None:
        raise ConfigError("--num-classes is missing", fix="as in --num-classes 21, or 80+53")
    classes = parse_classes(text)
    if len(classes) == 1 and task == "panoptic" and "semantic" in info.also:
        return 0, *classes
    if len(classes) != (2 if task == "panoptic" else 1):
        wanted = "THINGS+STUFF, as in 80+53" if task == "panoptic" else "one number, as in 21"
        raise ConfigError(f"--num-classes of the {task} model '{model_id}' is {wanted}: '{text}'")
    return classes
