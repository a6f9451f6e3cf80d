"""The training loop, on one page; a kill at any instant costs the work since a checkpoint.

``train`` called again with the same arguments resumes, and on a CPU the weights come out
bit-identical to those of an unbroken run: batches, augmentation, dropout and learning rate
are functions of (seed, iteration), the rest is in the checkpoint.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segbench.core import provenance
from segbench.core.errors import EXIT_REQUEUE, DataError, TrainingError
from segbench.core.files import read_json, write_jsonl
from segbench.core.lease import Lease
from segbench.core.progress import say, track
from segbench.core.seal import write_sealed
from segbench.formats.prepared import PreparedDataset
from segbench.training.build import build_model
from segbench.training.checkpoint import clear_checkpoints, damaged_checkpoints
from segbench.training.data import Batch, batches_of, train_loader
from segbench.training.device import (
    StopRequest,
    autocast_dtype,
    catch_signals,
    choose_device,
    explain_memory,
    explain_one_value,
    numerics,
    reseed,
)
from segbench.training.distributed import process_group
from segbench.training.initial_weights import check_start, freeze, start_file
from segbench.training.log import FiniteWatch, TrainLog
from segbench.training.optim import learning_rate, set_learning_rate
from segbench.training.recipe import Recipe, recipe_digest
from segbench.training.state import RunState, start_run
from segbench.training.trained_run import LOG, NAME, WEIGHTS
from segbench.training.weights import save_weights

__all__ = ["Outcome", "build_model", "train"]


@dataclass(frozen=True)
class Outcome:
    """How a call of ``train`` ended; unfinished only where ``stop_after`` asked for it."""

    finished: bool
    iteration: int
    attempt: int


def train(
    recipe: Recipe,
    dataset: PreparedDataset,
    *,
    seed: int,
    out: Path,
    state: Path,
    init: Path | None = None,
    device: str | None = None,
    code: str = "",
    experiment: str = "",
    stop_after: int | None = None,
) -> Outcome:
    """Train a recipe and write ``weights.safetensors``, ``recipe.json``, ``train_log.jsonl``.

    Under ``segbench.training.spawn`` every process calls this; the first one writes.

    Args:
        recipe: The experiment.
        dataset: The prepared dataset.
        seed: Decides initial weights, order and augmentation.
        out: Folder of the outputs, written once, at the end.
        state: Folder of checkpoints and lease, of this recipe and seed alone.
        init: Weights of the experiment that the recipe's ``init_from`` names.
        device: See ``runtime.choose_device``.
        code: Code fingerprint; a checkpoint of other code is not continued.
        experiment: Name of the row, for the record.
        stop_after: Save and return after this many iterations of the run.

    Raises:
        ConfigError: The weights to start from are not there.
        TrainingError: The loss is not finite, memory ran out, the state is foreign, or nothing
            of the weights to start from fits.
        LeaseLost: Another process took the state over.
        SystemExit: With ``EXIT_REQUEUE``, after SIGTERM or SIGUSR1 and a checkpoint.
    """
    place, first = choose_device(recipe, device), start_file(recipe, init)
    if first is not None:
        check_start(recipe, first, seed=seed)
    began = time.time()
    with numerics(recipe, place), _ownership(state, out) as lease, process_group(place) as group:
        if group.from_main(_done_meanwhile(lease, out, recipe, dataset, seed=seed, since=began)):
            return Outcome(True, recipe.iterations, lease.attempt if lease else 0)
        with _memory(recipe):
            run = start_run(
                recipe, dataset, seed=seed, code=code,
                device=place, group=group, folder=state, lease=lease, init=first,
            )  # fmt: skip
        if group.is_main:
            say(_opening(run))
            if run.start is not None:
                say(f"starts from {recipe.init_from}: {run.start}")
        with catch_signals() as stop, _memory(recipe), explain_one_value(recipe):
            finished = _loop(run, stop, stop_after)
        if finished:
            _export(run, dataset, out, experiment)
            if group.is_main:
                say(f"done: {recipe.iterations} iterations in {run.counters.time_s:.1f} s, {out}")
        return Outcome(finished, run.counters.iteration, lease.attempt if lease else 0)


def _opening(run: RunState) -> str:
    """Return what a log begins with: what is trained where, and from which iteration."""
    recipe, attempt = run.recipe, run.lease.attempt if run.lease else 1
    parameters = sum(p.numel() for p in run.module.parameters())
    return (
        f"{recipe.model}, {parameters:,} parameters, on {run.device} x{run.group.world_size}, "
        f"batch {recipe.batch_size}, seed {run.identity['seed']}, attempt {attempt}: iteration "
        f"{run.counters.iteration} to {recipe.iterations}"
    )


def _loop(run: RunState, stop: StopRequest, stop_after: int | None) -> bool:
    """Iterate to the end of the recipe; False when ``stop_after`` ended it before."""
    recipe, counters = run.recipe, run.counters
    if counters.iteration >= recipe.iterations:
        return True
    log, watch = TrainLog(run), FiniteWatch(run)
    run.module.train()
    freeze(run.model, recipe.frozen)
    with closing(_batches(run, stop, log.status)) as batches:
        for batch in batches:
            _advance(run, batch, log, watch)
            stopping = run.group.any(stop.name is not None, run.device)
            done = counters.iteration in (recipe.iterations, stop_after)
            due = counters.iteration % recipe.checkpoint_interval == 0
            if done or (due and not stopping):
                _save(run, log, watch)
            if done or stopping:
                break
    if counters.iteration in (recipe.iterations, stop_after):
        return counters.iteration == recipe.iterations
    _save(run, log, watch)
    say(f"{stop.name}: saved at iteration {counters.iteration}, exit {EXIT_REQUEUE}")
    raise SystemExit(EXIT_REQUEUE)


def _save(run: RunState, log: TrainLog, watch: FiniteWatch) -> None:
    watch.check()
    log.close()
    run.save()


def _advance(run: RunState, batch: Batch, log: TrainLog, watch: FiniteWatch) -> None:
    """Learn from one batch and take note of it."""
    counters, iteration = run.counters, run.counters.iteration
    losses, norm = _step(run, batch.to(run.device), iteration)
    watch.see(iteration, losses, norm)
    counters.iteration += 1
    counters.images_seen += run.recipe.batch_size
    counters.ignored_batches += batch.num_labelled == 0
    log.see(iteration, losses, norm)


def _step(run: RunState, batch: Batch, iteration: int) -> tuple[dict[str, Tensor], Tensor]:
    """Take one optimiser step; return the losses and the norm of their gradient."""
    recipe = run.recipe
    reseed(run.identity["seed"], iteration, run.group.rank)
    set_learning_rate(run.optimizer, learning_rate(recipe, iteration))
    images = batch.images
    if recipe.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    dtype = autocast_dtype(recipe, run.device)
    with torch.autocast(run.device.type, dtype=dtype, enabled=dtype is not None):
        ignored = recipe.task == "semantic" and batch.num_labelled == 0
        losses: dict[str, Tensor] = run.module(images, batch.targets, ignored)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    run.scaler.unscale_(run.optimizer)
    limit = recipe.clip_grad_norm or float("inf")
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), limit)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return {name: value.detach() for name, value in losses.items()}, norm


def _batches(
    run: RunState, stop: StopRequest, status: Callable[[], str]
) -> Generator[Batch, None, None]:
    """Yield the batches still to learn from and report progress.

    Closing it ends the loader processes. One that falls to the same signal as the trainer
    ends the batches early; the state is that of the last whole iteration.
    """
    recipe, start = run.recipe, run.counters.iteration
    with closing(train_loader(run.batches, start=start, workers=recipe.workers)) as made:
        batches: Iterator[Batch] = made
        if run.group.is_main:
            label = f"train {recipe.model} on {recipe.dataset}"
            batches = track(made, recipe.iterations, label, start=start, status=status)
        try:
            yield from batches
        except TrainingError:
            if stop.name is None:
                raise


def _export(run: RunState, dataset: PreparedDataset, out: Path, experiment: str) -> None:
    """Write the outputs, the record of the run last, and clear the state."""
    ignored = run.group.total(run.counters.ignored_batches, run.device)
    if run.lease is None:
        return
    run.lease.check()
    save_weights(out / WEIGHTS, run.model)
    write_jsonl(out / LOG, run.counters.rows)
    files = {name: provenance.file_digest(out / name) for name in (WEIGHTS, LOG)}
    facts = {"experiment": experiment, **_facts(run, dataset)}
    write_sealed(out / NAME, {**facts, "ignored_batches": ignored, "files": files})
    run.lease.finish()
    clear_checkpoints(run.folder)
    (run.folder / "diverged.json").unlink(missing_ok=True)


def _facts(run: RunState, dataset: PreparedDataset) -> dict[str, Any]:
    cuda = run.device.type == "cuda"
    dtype = autocast_dtype(run.recipe, run.device)
    start = {} if run.start is None else {"init": run.start.facts(run.recipe)}
    return {
        **start,
        "recipe": run.recipe.model_dump(mode="json"),
        "recipe_digest": run.identity["recipe"],
        "data_digest": run.identity["data"],
        "code": run.identity["code"],
        "seed": run.identity["seed"],
        "num_classes": len(dataset.table),
        "categories": list(dataset.table.names),
        "iterations": run.counters.iteration,
        "images_seen": run.counters.images_seen,
        "attempts": run.lease.attempt if run.lease else 1,
        "damaged_checkpoints": damaged_checkpoints(run.folder),
        "wall_time_s": round(run.counters.time_s, 3),
        "device": torch.cuda.get_device_name(run.device) if cuda else "cpu",
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "threads": run.recipe.threads,
        "processes": run.group.world_size,
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
    }


@contextmanager
def _ownership(state: Path, out: Path) -> Iterator[Lease | None]:
    """Own the state in the process that writes; find folders that cannot be written first."""
    if int(os.environ.get("RANK", "0")) != 0:
        yield None
        return
    for folder in (out, state):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise DataError(
                f"cannot write into {folder}: {error.strerror or error}",
                fix="make the folder writable or choose another results folder",
            ) from error
    with Lease(state) as lease:
        yield lease


def _done_meanwhile(
    lease: Lease | None, out: Path, recipe: Recipe, dataset: PreparedDataset,
    *, seed: int, since: float,
) -> bool:  # fmt: skip
    """Say whether the holder this process waited for finished the same run."""
    record = out / "recipe.json"
    if lease is None or not lease.waited or not record.exists() or record.stat().st_mtime < since:
        return False
    found = read_json(record)
    same = (recipe_digest(recipe), dataset.digest, seed)
    return (found["recipe_digest"], found["data_digest"], found["seed"]) == same


def _memory(recipe: Recipe) -> AbstractContextManager[None]:
    return explain_memory(
        batches_of(recipe),
        fix="lower batch_size or crop_size in the recipe, or ask for more memory",
    )
