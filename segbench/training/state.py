"""Everything a training run carries from one iteration to the next, and its way to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segbench.core.errors import TrainingError
from segbench.core.files import write_json
from segbench.core.lease import Lease
from segbench.core.progress import say
from segbench.formats.prepared import PreparedDataset
from segbench.training.build import build_model, set_loss
from segbench.training.checkpoint import (
    clean_temporaries,
    clear_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from segbench.training.data import SplitDataset, TrainBatches
from segbench.training.device import autocast_dtype
from segbench.training.distributed import Group, LossModule, parallel
from segbench.training.initial_weights import Start, freeze, start_from
from segbench.training.optim import build_optimizer
from segbench.training.recipe import Recipe, recipe_digest
from segbench.training.weights import load_weights_into


@dataclass
class Counters:
    """What is counted over all attempts of a run; ``rows`` is the training log."""

    iteration: int = 0
    images_seen: int = 0
    ignored_batches: int = 0
    time_s: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class RunState:
    """A run in memory: network, optimiser, batches, counters.

    ``identity`` says which recipe, data, code, first weights and seed it belongs to; a
    checkpoint of another identity is never continued.
    """

    recipe: Recipe
    identity: dict[str, Any]
    device: torch.device
    group: Group
    folder: Path
    lease: Lease | None
    batches: TrainBatches
    model: nn.Module
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    counters: Counters
    start: Start | None = None
    """What was taken from the weights that ``init_from`` names."""

    def save(self) -> Path | None:
        """Write a checkpoint; ``LeaseLost`` when another process owns the state by now."""
        if self.lease is None:
            return None
        self.lease.check()
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "counters": asdict(self.counters),
        }
        iteration = self.counters.iteration
        return save_checkpoint(
            self.folder, state, iteration=iteration, before_commit=self.lease.check
        )

    def diverged(self, iteration: int) -> TrainingError:
        """Mark the run as diverged at an iteration and return the error that says so."""
        ids = self.batches.image_ids(iteration)
        files = sorted(self.folder.glob("checkpoint-*.pt"), key=lambda p: p.stat().st_mtime)
        last = files[-1].name if files else None
        if self.group.is_main:
            facts = {"iteration": iteration + 1, "image_ids": ids, "last_good_checkpoint": last}
            write_json(self.folder / "diverged.json", facts)
        return TrainingError(
            f"diverged: the loss or its gradient is not finite at iteration {iteration + 1}, "
            f"images {ids}; last good checkpoint {last or 'none'} in {self.folder}",
            fix="lower base_lr or set clip_grad_norm in the recipe",
        )


def start_run(
    recipe: Recipe,
    dataset: PreparedDataset,
    *,
    seed: int,
    code: str,
    device: torch.device,
    group: Group,
    folder: Path,
    lease: Lease | None,
    init: Path | None = None,
) -> RunState:
    """Build a run and bring it to where its newest good checkpoint stands."""
    processes = max(recipe.workers, 1)
    samples = SplitDataset(dataset, recipe.train_split, task=recipe.task, processes=processes)
    batches = TrainBatches(samples, recipe, seed=seed, rank=group.rank, world_size=group.world_size)
    torch.manual_seed(seed)
    model = build_model(recipe, dataset.table)
    start = None if init is None else start_from(model, init, into=recipe.init_into)
    set_loss(model, recipe, dataset)
    freeze(model, recipe.frozen)
    identity = {
        "recipe": recipe_digest(recipe),
        "seed": seed,
        "data": dataset.digest,
        "code": code,
        "init": "" if start is None else start.digest,
    }
    form = torch.channels_last if recipe.channels_last else torch.preserve_format
    model.to(device=device, memory_format=form)  # type: ignore[call-overload]
    fp16 = autocast_dtype(recipe, device) == torch.float16
    run = RunState(
        recipe=recipe,
        identity=identity,
        device=device,
        group=group,
        folder=folder,
        lease=lease,
        batches=batches,
        model=model,
        module=nn.Identity(),
        optimizer=build_optimizer(model, recipe),
        scaler=torch.amp.GradScaler(device.type, enabled=fp16),
        counters=Counters(),
        start=start,
    )
    _resume(run)
    run.module = parallel(LossModule(model), group, device, task=recipe.task)
    return run


def _resume(run: RunState) -> None:
    state, path = None, None
    if run.group.is_main:
        clean_temporaries(run.folder)
        found = newest_checkpoint(run.folder)
        if found is not None and _belongs(run.identity, *found):
            path, state = found
        elif found is not None:
            clear_checkpoints(run.folder)
    path = run.group.from_main(path)
    if path is None:
        return
    restore(run, read_checkpoint(path) if state is None else state, path)


def _belongs(identity: Mapping[str, Any], path: Path, state: Mapping[str, Any]) -> bool:
    """Say whether a checkpoint continues this run, with its data, code and first weights.

    Raises:
        TrainingError: It was copied here from another recipe or seed.
    """
    found = state.get("identity")
    found = found if isinstance(found, dict) else {}
    for key in ("recipe", "seed"):
        if found.get(key) != identity[key]:
            raise TrainingError(
                f"{path} belongs to {key} {found.get(key)}, this run is {key} {identity[key]}",
                fix=f"remove {path.parent}: it holds the state of another run",
            )
    keys = {"data": "data", "code": "code", "init": "weights it starts from"}
    changed = [name for key, name in keys.items() if found.get(key, "") != identity.get(key, "")]
    if changed:
        say(f"{path}: the {' and the '.join(changed)} changed since; training starts anew")
    return not changed


def restore(run: RunState, state: Mapping[str, Any], path: Path) -> None:
    """Put a checkpoint into a run.

    Raises:
        TrainingError: It does not fit the network.
    """
    try:
        load_weights_into(run.model, state["model"], str(path))
        run.optimizer.load_state_dict(state["optimizer"])
        run.scaler.load_state_dict(state["scaler"])
        run.counters = Counters(**state["counters"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} does not fit this run: {error}", fix=f"remove {path.parent}"
        ) from error
    if run.group.is_main:
        say(f"resuming from {path} at iteration {run.counters.iteration}")
