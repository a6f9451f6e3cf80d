"""``segbench predict`` and ``segbench control``: prediction files in the public formats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from segbench.cli import output

DATA = click.option("--data", type=output.PATH, required=True, help="Prepared dataset.")
SPLIT = click.option("--split", default="val", show_default=True)
OUT = click.option("--out", type=output.PATH, required=True, help="Folder of predictions.")


@click.command()
@click.argument("experiment", type=output.PATH)
@click.option("--run", type=output.PATH, required=True, help="Trained run.")
@DATA
@SPLIT
@OUT
@click.option("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one.")
@click.option(
    "--oracle", "oracles", type=click.Choice(["semantic", "boxes", "masks"]),
    multiple=True,
    help="Part of a panoptic prediction to replace by the truth. Repeatable.",
)  # fmt: skip
def predict(
    experiment: Path, run: Path, data: Path, split: str, out: Path, device: str | None,
    oracles: tuple[str, ...],
) -> None:  # fmt: skip
    """Predict a split with the weights of a trained run of EXPERIMENT (a YAML file)."""
    from segbench import provenance
    from segbench.config import ORACLES
    from segbench.formats import read_json
    from segbench.manifest import write_manifest
    from segbench.output_folder import check_replaceable, replacing
    from segbench.paths import Input
    from segbench.prepared import PreparedDataset
    from segbench.recipe import load_recipe
    from segbench.registry import model_info

    recipe, dataset = load_recipe(experiment), PreparedDataset.open(data)
    parts = tuple(part for part in ORACLES if part in oracles)
    trained = read_json(run / "recipe.json")
    inputs = (
        Input(data, "--data"), Input(run, "--run", may_hold=True), Input(experiment, "EXPERIMENT"),
    )  # fmt: skip
    check_replaceable(out, "predictions", inputs=inputs)
    from segbench.inference import predict_split

    begin, weights = time.monotonic(), run / "weights.safetensors"
    with replacing(out, "predictions", inputs=inputs) as building:
        predict_split(recipe, weights, dataset, split, building, device=device, oracles=parts)
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
                "data": dataset.digest,
                "code": trained.get("code", ""),
                "weights": provenance.file_digest(weights),
            },
            hardware=trained.get("hardware", provenance.hardware()),
            device=trained["device"],
            wall_time_s={
                "train": round(trained["wall_time_s"], 2),
                "predict": round(time.monotonic() - begin, 2),
            },
        )


def _row(experiment: str, name: str, oracles: Sequence[str]) -> dict[str, Any]:
    """Return how the row of the board is called, and which parts of it are the truth."""
    from segbench.config import oracle_experiment, oracle_tag

    if not oracles:
        return {"kind": "trained", "experiment": experiment, "display_name": name, "oracles": []}
    return {
        "kind": "oracle",
        "experiment": oracle_experiment(experiment, oracles),
        "display_name": f"{name}, {oracle_tag(oracles)}",
        "oracles": list(oracles),
    }


@click.command()
@click.argument("name")
@DATA
@SPLIT
@OUT
def control(name: str, data: Path, split: str, out: Path) -> None:
    """Write the predictions of a control row: oracle, majority_class, all_void, shifted_labels."""
    from segbench.config import CONTROLS
    from segbench.controls import write_control
    from segbench.errors import ConfigError, did_you_mean
    from segbench.manifest import write_manifest
    from segbench.output_folder import replacing
    from segbench.paths import Input
    from segbench.prepared import PreparedDataset

    if name not in CONTROLS:
        raise ConfigError(
            f"unknown control '{name}'.{did_you_mean(name, CONTROLS)}",
            fix=f"controls are {', '.join(CONTROLS)}",
        )
    dataset = PreparedDataset.open(data)
    begin = time.monotonic()
    with replacing(out, "predictions", inputs=(Input(data, "--data"),)) as building:
        write_control(name, dataset, split, building)
        write_manifest(
            building,
            kind="control",
            dataset=dataset.name,
            experiment=name,
            model=None,
            display_name=name.replace("_", " "),
            seed=0,
            split=split,
            digests={"data": dataset.digest},
            wall_time_s={"predict": round(time.monotonic() - begin, 2)},
        )
