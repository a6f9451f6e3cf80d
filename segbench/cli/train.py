"""``segbench train``: one experiment file, one seed, one set of weights."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Prepared dataset.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--state", type=click.Path(path_type=Path), required=True,
    help="Folder of checkpoints; a rerun resumes from it.",
)  # fmt: skip
@click.option(
    "--init", type=click.Path(path_type=Path),
    help="Weights of the experiment that the recipe's init_from names.",
)  # fmt: skip
@click.option("--iterations", type=click.IntRange(min=1), help="Override the recipe's length.")
@click.option("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one.")
@click.option("--code", default="", help="Code fingerprint to record.")
def train(
    experiment: Path, data: Path, seed: int, out: Path, state: Path, init: Path | None,
    iterations: int | None, device: str | None, code: str,
) -> None:  # fmt: skip
    """Train EXPERIMENT (a YAML file); the same command resumes after any kill."""
    from segbench.errors import LeaseLost
    from segbench.plan import shorten
    from segbench.prepared import PreparedDataset
    from segbench.progress import say
    from segbench.recipe import load_recipe, recipe_digest
    from segbench.registry import model_info

    recipe = shorten(load_recipe(experiment), iterations)
    model_info(recipe.model)
    dataset = PreparedDataset.open(data)
    dataset.refuse_unchecked(recipe.train_split)
    from segbench.training import train as run

    digest = recipe_digest(recipe)
    began = time.time()
    while True:
        try:
            run(
                recipe, dataset, seed=seed, out=out, state=state / digest, init=init,
                device=device, code=code,
            )  # fmt: skip
            return
        except LeaseLost as lost:
            if "RANK" in os.environ:
                raise
            say(str(lost))
            if _finished_by_another(out, digest, since=began):
                return


def _finished_by_another(out: Path, digest: str, *, since: float) -> bool:
    """Say whether the process that took over has written the result.

    A job that failed here would take that result with it: Snakemake deletes the outputs of a
    failed job, whoever wrote them.
    """
    from segbench.formats import read_json

    record = out / "recipe.json"
    if not record.exists() or record.stat().st_mtime < since:
        return False
    return bool(read_json(record)["recipe_digest"] == digest)
