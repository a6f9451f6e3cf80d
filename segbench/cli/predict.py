"""``segbench predict`` and ``segbench control``: prediction files in the public formats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

DATA = click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Prepared dataset."
)
SPLIT = click.option("--split", default="val", show_default=True)
OUT = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of predictions."
)


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Trained run.")
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
    from segbench.prepared import PreparedDataset
    from segbench.recipe import load_recipe
    from segbench.registry import model_info

    recipe, dataset = load_recipe(experiment), PreparedDataset.open(data)
    parts = tuple(part for part in ORACLES if part in oracles)
    trained = read_json(run / "recipe.json")
    from segbench.inference import predict_split

    begin = time.monotonic()
    _empty(out)
    predict_split(
        recipe, run / "weights.safetensors", dataset, split, out, device=device, oracles=parts
    )
    info = model_info(recipe.model)
    write_manifest(
        out,
        dataset=dataset.name,
        model=info.id,
        **_row(experiment.stem, info.display_name + recipe.name_suffix, parts),
        seed=trained["seed"],
        split=split,
        digests={
            "recipe": trained["recipe_digest"],
            "data": dataset.digest,
            "code": trained.get("code", ""),
            "weights": provenance.file_digest(run / "weights.safetensors"),
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
    from segbench.prepared import PreparedDataset

    if name not in CONTROLS:
        raise ConfigError(
            f"unknown control '{name}'.{did_you_mean(name, CONTROLS)}",
            fix=f"controls are {', '.join(CONTROLS)}",
        )
    dataset = PreparedDataset.open(data)
    begin = time.monotonic()
    _empty(out)
    write_control(name, dataset, split, out)
    write_manifest(
        out,
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


def _empty(folder: Path) -> None:
    """Remove predictions of an earlier attempt, so that none of them is taken for new."""
    import shutil

    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
