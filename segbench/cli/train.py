"""``segbench train``: one experiment file, one seed, one set of weights."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import click

from segbench.cli import output


@click.command()
@click.argument("experiment", type=output.PATH)
@click.option("--data", type=output.PATH, required=True, help="Prepared dataset.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--out", type=output.PATH, required=True, help="Folder of the run.")
@click.option(
    "--state", type=output.PATH, required=True,
    help="Folder of checkpoints; a rerun resumes from it.",
)  # fmt: skip
@click.option(
    "--init", type=output.PATH,
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
    from segbench.core.errors import LeaseLost
    from segbench.core.progress import say
    from segbench.formats.prepared import PreparedDataset
    from segbench.models.registry import model_info
    from segbench.training.recipe import load_recipe, recipe_digest
    from segbench.workflow.batch_rules import check_batch
    from segbench.workflow.plan import shorten

    recipe = shorten(load_recipe(experiment), iterations)
    check_batch(recipe, model_info(recipe.model), str(experiment))
    dataset = PreparedDataset.open(data)
    dataset.refuse_unchecked(recipe.train_split)
    _take(out, state, inputs={data: "--data", experiment: "EXPERIMENT", init: "--init",
                              **dict.fromkeys(recipe.first_weights, "first weights")})  # fmt: skip
    from segbench.training.loop import train as run

    digest = recipe_digest(recipe)
    began = time.time()
    while True:
        try:
            run(
                recipe, dataset, seed=seed, out=out, state=state / digest, init=init,
                device=device, code=code, experiment=experiment.stem,
            )  # fmt: skip
            return
        except LeaseLost as lost:
            if "RANK" in os.environ:
                raise
            say(str(lost))
            if _finished_by_another(out, digest, since=began):
                return


def _take(out: Path, state: Path, *, inputs: Mapping[Path | None, str]) -> None:
    """Mark the folder of the run as one of segbench, unless it holds something else."""
    from segbench.core.older_folders import json_object
    from segbench.core.output_folder import check_updatable, write_marker
    from segbench.core.paths import Input, output_place

    read = [Input(path, what) for path, what in inputs.items() if path is not None]
    output_place(state, option="--state", inputs=read, replaced=False)
    place = check_updatable(
        out, "run", inputs=read, files=("weights.safetensors", "train_log.jsonl", "recipe.json"),
        ours=lambda folder: "recipe_digest" in json_object(folder / "recipe.json"),
    )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":
        write_marker(place, "run")


def _finished_by_another(out: Path, digest: str, *, since: float) -> bool:
    """Say whether the process that took over has written the result.

    A job that failed here would take that result with it: Snakemake deletes the outputs of a
    failed job, whoever wrote them.
    """
    from segbench.core.files import read_json

    record = out / "recipe.json"
    if not record.exists() or record.stat().st_mtime < since:
        return False
    return bool(read_json(record)["recipe_digest"] == digest)
