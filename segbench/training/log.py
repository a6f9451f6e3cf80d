"""What a training loop writes down, and the check that it is still a number."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from segbench.core.files import finite_or_none, write_jsonl
from segbench.training.optim import learning_rate
from segbench.training.state import RunState


class FiniteWatch:
    """Finds the first iteration whose loss or gradient is not finite.

    On a GPU the answer is fetched every ten iterations and before each checkpoint, so that
    the check does not hold up the queue. With fp16 the gradient may overflow: the scaler
    skips such a step, only the loss counts.
    """

    def __init__(self, run: RunState) -> None:
        self.run = run
        self.period = 1 if run.device.type == "cpu" else 10
        self.bad = torch.tensor(-1, device=run.device)

    def see(self, iteration: int, losses: dict[str, Tensor], norm: Tensor) -> None:
        """Take in the losses and the gradient norm of an iteration."""
        values = [*losses.values()] if self.run.scaler.is_enabled() else [*losses.values(), norm]
        finite = torch.stack([torch.isfinite(value) for value in values]).all()
        self.bad = torch.where((self.bad < 0) & ~finite, iteration, self.bad)
        if iteration % self.period == 0:
            self.check()

    def check(self) -> None:
        """Raise ``TrainingError`` when a bad iteration was seen."""
        bad = int(self.bad)
        if bad >= 0:
            raise self.run.diverged(bad)


class TrainLog:
    """Rows of ``train_log.jsonl``, about 200 a run; kept in the checkpoint."""

    def __init__(self, run: RunState) -> None:
        self.run, self.counters = run, run.counters
        self.interval = max(1, min(50, run.recipe.iterations // 200))
        self.begin = self.row_begin = time.monotonic()
        self.row_iteration = run.counters.iteration
        self.before_s = run.counters.time_s
        self.live = run.folder / "train_log.jsonl"
        if run.group.is_main:
            write_jsonl(self.live, self.counters.rows)

    def see(self, iteration: int, losses: dict[str, Tensor], norm: Tensor) -> None:
        """Add a row where one is due."""
        if (iteration + 1) % self.interval and iteration + 1 != self.run.recipe.iterations:
            return
        now, values = time.monotonic(), {name: float(v) for name, v in losses.items()}
        images = (iteration + 1 - self.row_iteration) * self.run.recipe.batch_size
        row = {
            "iteration": iteration + 1,
            "loss": finite_or_none(sum(values.values())),
            "losses": {name: finite_or_none(value) for name, value in values.items()},
            "lr": learning_rate(self.run.recipe, iteration),
            "grad_norm": finite_or_none(float(norm)),
            "images_per_second": round(images / max(now - self.row_begin, 1e-9), 2),
            "time_s": round(self.before_s + now - self.begin, 3),
        }
        self.counters.rows.append(row)
        self.row_begin, self.row_iteration = now, iteration + 1

    def close(self) -> None:
        """Bring the clock and the readable copy of the log up to date, for a checkpoint."""
        self.counters.time_s = self.before_s + time.monotonic() - self.begin
        if self.run.group.is_main:
            write_jsonl(self.live, self.counters.rows)

    def status(self) -> str:
        """Return the last loss and learning rate for the progress line."""
        if not self.counters.rows:
            return ""
        row = self.counters.rows[-1]
        return f"loss {row['loss']:.4f}, lr {row['lr']:.2e}"
