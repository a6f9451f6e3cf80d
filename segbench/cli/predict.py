"""``segbench predict`` and ``segbench control``: prediction files in the public formats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli import output

if TYPE_CHECKING:
    from segbench.formats.prepared import PreparedDataset
    from segbench.training.recipe import Recipe
    from segbench.training.trained_run import TrainedRun

DATA = click.option("--data", type=output.PATH, required=True, help="Prepared dataset.")
SPLIT = click.option("--split", default="val", show_default=True)
OUT = click.option("--out", type=output.PATH, required=True, help="Folder of predictions.")


@click.command()
@click.argument("experiment", type=output.PATH)
@click.option("--run", type=output.PATH, required=True, help="Trained run.")
@DATA
@SPLIT
@OUT
@click.option(
    "--iterations", type=click.IntRange(min=1),
    help="Length the run must have been trained in; default: whatever it was.",
)  # fmt: skip
@click.option("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one.")
@click.option(
    "--oracle", "oracles", type=click.Choice(["semantic", "boxes", "masks"]),
    multiple=True,
    help="Part of a panoptic prediction to replace by the truth. Repeatable.",
)  # fmt: skip
def predict(
    experiment: Path, run: Path, data: Path, split: str, out: Path, iterations: int | None,
    device: str | None, oracles: tuple[str, ...],
) -> None:  # fmt: skip
    """Predict a split with the weights of a trained run of EXPERIMENT (a YAML file).

    The weights must be those that training wrote, of this recipe and of the dataset's classes.
    """
    from segbench.core import provenance
    from segbench.core.output_folder import check_replaceable, replacing
    from segbench.core.paths import Input
    from segbench.formats.manifest import write_manifest
    from segbench.formats.prepared import PreparedDataset
    from segbench.models.registry import model_info
    from segbench.training.recipe import inference_digest, load_recipe
    from segbench.training.trained_run import TrainedRun
    from segbench.workflow.config import ORACLES
    from segbench.workflow.plan import shorten

    recipe, dataset = load_recipe(experiment), PreparedDataset.open(data)
    parts = tuple(part for part in ORACLES if part in oracles)
    inputs = (
        Input(data, "--data"), Input(run, "--run", may_hold=True), Input(experiment, "EXPERIMENT"),
    )  # fmt: skip
    check_replaceable(out, "predictions", inputs=inputs)
    source = TrainedRun.open(run)
    recipe = shorten(recipe, iterations or source.iterations)
    weights_digest, trained = _checked(source, recipe, dataset, experiment), source.facts
    from segbench.inference.predict import predict_split

    begin = time.monotonic()
    with replacing(out, "predictions", inputs=inputs) as building:
        predict_split(
            recipe, source.weights, dataset, split, building, device=device, oracles=parts
        )
        info = model_info(recipe.model)
        write_manifest(
            building,
            dataset=dataset.name,
            model=info.id,
            **_row(experiment.stem, info.display_name + recipe.name_suffix, parts),
            seed=trained["seed"],
            split=split,
            digests={
                "recipe": trained["recipe_digest"],
                "inference": inference_digest(recipe),
                "data": dataset.digest,
                "trained_on": trained["data_digest"],
                "code": trained.get("code", ""),
                "weights": weights_digest,
            },
            hardware=trained.get("hardware", provenance.hardware()),
            device=trained["device"],
            wall_time_s={
                "train": round(trained["wall_time_s"], 2),
                "predict": round(time.monotonic() - begin, 2),
            },
        )


def _checked(run: TrainedRun, recipe: Recipe, dataset: PreparedDataset, experiment: Path) -> str:
    """Return the digest of the weights once recipe, classes and weights are the run's own."""
    from segbench.core.progress import say

    run.check_recipe(recipe, str(experiment))
    run.check_classes(dataset)
    if run.facts["data_digest"] != dataset.digest:
        say(
            f"warning: {run.folder} was trained on another preparation of '{dataset.name}' than "
            f"{dataset.root}; the result is not ranked on a board"
        )
    return run.check_weights()


def _row(experiment: str, name: str, oracles: Sequence[str]) -> dict[str, Any]:
    """Return how the row of the board is called, and which parts of it are the ground truth."""
    from segbench.workflow.config import oracle_experiment, oracle_tag

    if not oracles:
        return {"kind": "trained", "experiment": experiment, "display_name": name, "oracles": []}
    return {
        "kind": "oracle",
        "experiment": oracle_experiment(experiment, oracles),
        "display_name": f"{name}, {oracle_tag(oracles)}",
        "oracles": list(oracles),
    }
