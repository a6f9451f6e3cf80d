"""Stored outputs of references that are no installed packages: read, made, compared.

A file of ``stored/`` names the reference (repository, commit, file), our model and its options,
and for some sizes 64 places of the output with the values that the reference gives there in
float64, with the sum and the sum of squares of all of them: a change anywhere shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from segbench.models.registry import create_model
from tests.models.equality.copying import Layers, called_layers, copy_layers
from tests.models.equality.filling import SIZES, filled, images

FOLDER = Path(__file__).with_name("stored")
PLACES = 64


class Reference(msgspec.Struct, frozen=True):
    """Where a network was published."""

    repository: str
    commit: str
    file: str
    note: str = ""


class Sample(msgspec.Struct, frozen=True):
    """Some values of an output, and two sums over all of it."""

    size: tuple[int, int]
    shape: tuple[int, ...]
    values: tuple[float, ...]
    total: float
    squares: float


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A reference's outputs with our weights (``filling.filled``)."""

    model: str
    arguments: tuple[int, ...]
    options: dict[str, Any] = {}
    gain: float = 1.0
    output: str = "logits"
    reference: Reference
    samples: tuple[Sample, ...]


def create(stored: Stored) -> Any:
    """Return our network with the weights of the stored outputs."""
    return filled(create_model(stored.model, *stored.arguments, **stored.options), gain=stored.gain)


def output_of(model: nn.Module, batch: Tensor, name: str) -> Tensor:
    """Return one output of our network: ``logits``, or ``masks.0`` of a list."""
    with torch.no_grad():
        found: Any = model(batch)
    for part in name.split("."):
        found = found[int(part) if part.isdigit() else part]
    assert isinstance(found, Tensor)
    return found


def difference(model: nn.Module, stored: Stored) -> float:
    """Return the largest difference to the stored values, of outputs of about unit scale.

    Above a largest value of 1 it is relative to that value. The sums count as means.
    """
    largest = 0.0
    for sample in stored.samples:
        found = sample_of(output_of(model, images(sample.size), stored.output), sample.size)
        assert found.shape == sample.shape
        count = float(np.prod(sample.shape))
        gaps = np.subtract(found.values, sample.values)
        scale = max(1.0, float(np.abs(sample.values).max()))
        means = (
            (found.total - sample.total) / count / scale,
            (found.squares - sample.squares) / count / scale**2,
        )
        largest = max(largest, *np.abs(gaps) / scale, *np.abs(means))
    return largest


def sample_of(output: Tensor, size: tuple[int, int]) -> Sample:
    """Return what is stored of an output."""
    flat = output.detach().double().flatten()
    places = np.linspace(0, flat.numel() - 1, PLACES).round().astype(int)
    return Sample(
        size=size,
        shape=tuple(output.shape),
        values=tuple(flat[places].tolist()),
        total=float(flat.sum()),
        squares=float((flat * flat).sum()),
    )


def read_all() -> dict[str, Stored]:
    """Return every stored output by the name of its file."""
    return {
        file.stem: msgspec.json.decode(file.read_bytes(), type=Stored)
        for file in sorted(FOLDER.glob("*.json"))
    }


def store(
    name: str,
    network: nn.Module,
    run: Callable[[nn.Module, Tensor], Tensor],
    *,
    model: str,
    arguments: tuple[int, ...],
    reference: Reference,
    options: dict[str, Any] | None = None,
    gain: float = 1.0,
    output: str = "logits",
    sizes: Iterable[tuple[int, int]] = SIZES,
    copy: Callable[[nn.Module, nn.Module], None] | None = None,
) -> None:
    """Give a reference our weights, store its outputs and print how far ours are from them.

    Args:
        name: Of the file.
        network: The reference.
        run: Runs it on images [1, 3, H, W] and returns what ``output`` of ours should equal.
        model: Our id.
        arguments: Our class counts.
        reference: Where it was published.
        options: Ours.
        gain: See ``filling.filled``.
        output: Of ours.
        sizes: Of the images.
        copy: Copies our weights (first argument) into the reference, in place of the copy by the
            order of calls.
    """
    sizes = tuple(sizes)
    stored = Stored(
        model=model,
        arguments=arguments,
        options=options or {},
        gain=gain,
        output=output,
        reference=reference,
        samples=(),
    )
    ours, network = create(stored), network.double().eval()
    (copy or by_calls(images(sizes[0]), run))(ours, network)
    with torch.no_grad():
        samples = tuple(sample_of(run(network, images(size)), size) for size in sizes)
    stored = msgspec.structs.replace(stored, samples=samples)
    print(f"{name}: largest difference {difference(ours, stored):.3g}")  # noqa: T201
    text = msgspec.json.format(msgspec.json.encode(stored), indent=1)
    FOLDER.joinpath(f"{name}.json").write_bytes(text + b"\n")


def by_calls(
    batch: Tensor, run: Callable[[nn.Module, Tensor], Any]
) -> Callable[[nn.Module, nn.Module], None]:
    """Return a function that copies our layers into a reference's in the order of calls."""

    def copy(ours: nn.Module, network: nn.Module) -> None:
        own: Layers = called_layers(ours, lambda model: model(batch))
        copy_layers(own, called_layers(network, lambda model: run(model, batch)))

    return copy
