"""Trainers in processes of their own, forked from a server that has torch imported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.training import training_toys

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["segbench.training.loop"])


def start(root: Path, run: Path, **options: Any) -> BaseProcess:
    """Start a trainer of the toy recipe; see ``_train`` for the options."""
    models = os.environ["SEGBENCH_MODELS_PATH"]
    process = CONTEXT.Process(target=_train, args=(str(root), str(run), models, options))
    process.start()
    return process


def start_pair(root: Path, run: Path, **options: Any) -> list[BaseProcess]:
    """Start two trainers that share one run, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(root, run, environment={**shared, "RANK": str(rank)}, **options) for rank in (0, 1)
    ]


def _train(root: str, run: str, models: str, options: dict[str, Any]) -> None:
    os.environ.update(options.pop("environment", {}), SEGBENCH_MODELS_PATH=models)
    if options.pop("own_group", False):
        os.setpgrp()
    if "gate" in options:
        options.pop("gate").hold_here()
    if "die_at_fsync" in options:
        _die_at_fsync(options.pop("die_at_fsync"))
    from segbench.formats.prepared import PreparedDataset
    from segbench.training.loop import train

    stop_after = options.pop("stop_after", None)
    train(
        training_toys.recipe(**options),
        PreparedDataset.open(Path(root)),
        seed=0,
        out=Path(run) / "out",
        state=Path(run) / "state",
        stop_after=stop_after,
    )


def _die_at_fsync(number: int) -> None:
    """Kill this process in place of its n-th fsync."""
    real, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync
