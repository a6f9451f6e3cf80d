"""Where a training starts: weights of another run or of a file, and parts that stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.core import provenance
from segbench.core.errors import ConfigError, ForeignFile, TrainingError, did_you_mean
from segbench.training.recipe import Recipe
from segbench.training.trained_run import NAME, WEIGHTS, TrainedRun
from segbench.training.weights import refuse_non_finite

SHOWN = 8
"""Names a log line lists at most."""


@dataclass(frozen=True)
class Start:
    """What a network took from a weights file."""

    digest: str
    """sha256 of the file."""
    taken: int
    kept: tuple[str, ...]
    """The network's tensors that the file has not, or not of that shape."""
    unused: tuple[str, ...]
    """The file's tensors that the network has not, or not of that shape."""

    def facts(self, recipe: Recipe) -> dict[str, Any]:
        """Return what the record of a run says of it."""
        return {"from": recipe.init_from, "weights": self.digest, "taken": self.taken,
                "kept": list(self.kept), "unused": list(self.unused)}  # fmt: skip

    def __str__(self) -> str:
        total = self.taken + len(self.kept)
        told = f"{self.taken} of {total} tensors taken"
        if self.kept:
            told += f"; at their own start: {_listed(self.kept)}"
        return told + (f"; not used: {_listed(self.unused)}" if self.unused else "")


def start_file(recipe: Recipe, given: Path | None) -> Path | None:
    """Return the weights file a recipe starts from: its own, or the one given for its experiment.

    Raises:
        ConfigError: One is needed and not given, or given and not needed, or is not there.
    """
    if recipe.base is None and given is not None:
        raise ConfigError(
            f"weights {given} are given, but the recipe starts from {recipe.init_from or 'none'}",
            fix="write init_from: <experiment> into the recipe",
        )
    file = given if recipe.base is not None else recipe.init_file
    if recipe.base is not None and file is None:
        raise ConfigError(
            f"the recipe starts from the experiment '{'/'.join(recipe.base)}', whose weights are "
            "not given",
            fix="train it first, then give its weights: --init <run>/weights.safetensors",
        )
    if file is not None and not file.is_file():
        raise ConfigError(f"init_from: {file} does not exist", fix="train the experiment first")
    return file


def start_from(model: nn.Module, file: Path, *, into: str = "") -> Start:
    """Fill a network with the tensors of a file that have equal names and shapes.

    Args:
        model: The network; all else keeps its initialisation.
        file: A safetensors file.
        into: Part of the network that is filled; empty is all of it.

    Raises:
        ConfigError: The network has no such part.
        TrainingError: The file cannot be read, or no parameter of it fits.
    """
    part = part_of(model, into, "init_into") if into else model
    found = _read(file)
    own = part.state_dict()
    fitting = {k: v for k, v in found.items() if k in own and v.shape == own[k].shape}
    if not fitting.keys() & dict(part.named_parameters()).keys():
        raise TrainingError(
            f"{file}: none of its {len(found)} tensors has name and shape of one of the "
            f"{len(own)} of the {'part ' + into if into else 'model'}; "
            f"found {_listed(tuple(found))}, expected {_listed(tuple(own))}",
            fix="start from weights of the same architecture, or name the part by init_into",
        )
    part.load_state_dict(fitting, strict=False)
    return Start(
        digest=provenance.file_digest(file),
        taken=len(fitting),
        kept=tuple(sorted(own.keys() - fitting.keys())),
        unused=tuple(sorted(found.keys() - fitting.keys())),
    )


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Keep parts of a network as they are: no gradients, and BatchNorm and dropout at rest.

    Raises:
        ConfigError: The network has no such part.
    """
    for name in names:
        part_of(model, name, "frozen").eval().requires_grad_(False)


def part_of(model: nn.Module, name: str, key: str) -> nn.Module:
    """Return a module by its dotted name; ``key`` of the recipe is named in errors.

    Raises:
        ConfigError: There is none.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = [child for child, _ in model.named_modules() if child]
        top = [child for child, _ in model.named_children()]
        raise ConfigError(
            f"{key}: the network has no part '{name}'.{did_you_mean(name, known)}",
            fix=f"name one of {', '.join(top)}, or a part of them",
        ) from None


def check_start(recipe: Recipe, file: Path, *, seed: int) -> None:
    """Refuse weights of another run than the one that ``init_from`` names.

    A file that the recipe names by its path, or without the ``recipe.json`` of its training
    beside it, is taken as it is.

    Raises:
        DataError: It is not what its training wrote.
        ForeignFile: It is of another dataset, experiment or seed.
    """
    if recipe.base is None or file.name != WEIGHTS or not (file.parent / NAME).exists():
        return
    run = TrainedRun.open(file.parent)
    dataset, experiment = recipe.base
    expected = {"dataset": dataset, "experiment": experiment, "seed": seed}
    found = {"dataset": run.facts["recipe"].get("dataset"), "seed": run.facts["seed"]}
    found["experiment"] = run.facts.get("experiment") or experiment
    for key, wanted in expected.items():
        if found[key] != wanted:
            raise ForeignFile(
                f"init_from: {file} is of {key} '{found[key]}', the recipe starts from '{wanted}'",
                fix=f"give the weights of {dataset}/{experiment} with seed {seed}",
            )
    run.check_weights()


def _read(file: Path) -> dict[str, Tensor]:
    fix = "train the experiment it comes from again, or give another file"
    try:
        weights = load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise TrainingError(f"{file} is no readable safetensors file: {error}", fix=fix) from error
    refuse_non_finite(weights, str(file), fix=fix)
    return weights


def _listed(names: Sequence[str]) -> str:
    def parts() -> Iterator[str]:
        yield from names[:SHOWN]
        if len(names) > SHOWN:
            yield f"and {len(names) - SHOWN} more"

    return ", ".join(parts())
