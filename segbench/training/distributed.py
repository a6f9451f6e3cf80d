"""One process or several: what a training loop needs of torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from segbench.training.data import Targets

Value = TypeVar("Value")


@dataclass(frozen=True)
class Group:
    """The processes of one training run; ``rank`` 0 writes files."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is set in any process."""
        if self.world_size == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
        return bool(value.item())

    def total(self, number: int, device: torch.device) -> int:
        """Return the sum of a number over the processes."""
        if self.world_size == 1:
            return number
        value = torch.tensor(float(number), device=device, dtype=torch.float64)
        distributed.all_reduce(value)
        return int(value.item())

    def from_main(self, value: Value) -> Value:
        """Return the value of rank 0 in every process; it must be picklable."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """Join the processes that ``training.spawn`` or torchrun started; alone where none did."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Group()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    meeting = os.environ.get("SEGBENCH_MEETING_FILE")
    if meeting is None:
        distributed.init_process_group(backend)
    else:
        rank, place = int(os.environ["RANK"]), f"file://{meeting}"
        distributed.init_process_group(backend, place, world_size=world_size, rank=rank)
    try:
        yield Group(distributed.get_rank(), world_size)
    finally:
        distributed.destroy_process_group()


class LossModule(nn.Module):
    """A model and its loss as one module, so that data parallelism sees the whole graph.

    A batch without one labelled pixel gives loss 0 with zero gradients: a mean over no
    pixels would be NaN.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Targets, ignored: bool) -> dict[str, Tensor]:
        """Return the named losses of a batch; ``ignored``: no pixel is labelled."""
        outputs = self.model(images)
        if ignored:
            return {"ignored": sum((t.sum() * 0 for t in _tensors(outputs)), images.new_zeros(()))}
        losses: dict[str, Tensor] = self.model.loss(outputs, targets)  # type: ignore[operator]
        return losses


def parallel(module: LossModule, group: Group, device: torch.device, *, task: str) -> nn.Module:
    """Wrap for data parallelism; on GPUs batch statistics are shared between processes."""
    if group.world_size == 1:
        return module
    # Box heads stay without gradient on a batch without objects.
    unused = task != "semantic"
    if device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(
            module, device_ids=[device.index], find_unused_parameters=unused
        )
    return DistributedDataParallel(module, find_unused_parameters=unused)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
