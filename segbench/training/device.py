"""What surrounds a training loop: device, precision, determinism, signals, memory errors."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from segbench.core.errors import ConfigError, TrainingError
from segbench.core.faults import is_memory
from segbench.core.stopping import SIGNALS, Requests
from segbench.training.recipe import Recipe


def choose_device(recipe: Recipe, name: str | None) -> torch.device:
    """Return the device to train or predict on.

    Args:
        recipe: ``gpus: 0`` keeps to the CPU.
        name: ``cpu``, ``cuda`` or ``cuda:N``; None takes a GPU where there is one.

    Raises:
        ConfigError: The name is no device of this machine.
    """
    if name is None:
        name = "cuda" if recipe.gpus and torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device '{name}'", fix="cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{name}' asked for, but torch sees no GPU", fix="--device cpu")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the lower precision to compute in, None for float32; fp16 needs a GPU."""
    if recipe.precision == "bf16":
        return torch.bfloat16
    if recipe.precision == "fp16" and device.type == "cuda":
        return torch.float16
    return None


@contextmanager
def numerics(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Fix threads and algorithms while the block runs.

    On a CPU the same seed gives the same bits. On a GPU the operations that have no
    deterministic form are used all the same, with a warning from torch.
    """
    threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch.set_num_threads(recipe.threads)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(recipe.deterministic, warn_only=device.type != "cpu")
        torch.backends.cudnn.benchmark = not recipe.deterministic
        yield
    finally:
        torch.set_num_threads(threads)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


def reseed(seed: int, iteration: int, rank: int) -> None:
    """Seed torch for one iteration, so that a resumed run needs no generator state."""
    sequence = np.random.SeedSequence([seed, iteration, rank])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


@dataclass
class StopRequest:
    """Set by a signal: save and leave at the next iteration."""

    name: str | None = None


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Turn signals into a request that the loop reads; main thread only.

    Ctrl-C, SIGTERM, SIGUSR1 and a closed terminal count, unless they are ignored. A second
    Ctrl-C does not wait for the loop.
    """
    request, received = StopRequest(), Requests()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _: object) -> None:
        request.name = request.name or signal.Signals(number).name
        if received.note(number):
            raise KeyboardInterrupt

    wanted = [n for n in (*SIGNALS, signal.SIGUSR1) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def explain_memory(doing: str, fix: str) -> Iterator[None]:
    """Turn running out of memory, of the host or a GPU, into a ``TrainingError``."""
    try:
        yield
    except Exception as error:
        if not is_memory(error):
            raise
        raise TrainingError(f"out of memory {doing}", fix=fix) from error


@contextmanager
def explain_one_value(recipe: Recipe) -> Iterator[None]:
    """Turn batch normalisation of one value a channel into a ``TrainingError``.

    The plan knows the models that pool globally; a crop as small as a network's stride, or a
    model of the user's, is met here.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"{recipe.model} normalises maps of one pixel over the batch, which has "
            f"one image in each process: {error}",
            fix="use a batch_size of at least 2 for each process, or a larger crop_size",
        ) from error
