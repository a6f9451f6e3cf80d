"""Which pixels of the image a feature can depend on, for any network that is plain tensor code.

A network runs once on the meta device, where nothing is computed. Beside every tensor goes, for
each axis, the first and the last row (column) of the image that each of its positions depends
on; a convolution takes the least and the largest over its window, a sum those of its terms, a
crop some of the positions. So the numbers are exact hulls whatever the code of the network, odd
paddings and rounded-up poolings included. Operations not known to keep positions apart (matrix
products, means) are taken to mix all of them.

Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill
2019, give the closed forms this reproduces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from segbench.models.profiling.receptive_rules import Span, Spans, rule_of

START, LARGEST = 512, 16384
"""Sides of the images tried: a field is known once it is less than half the image."""


@dataclass(frozen=True)
class Stage:
    """What the output of one module sees of the image.

    Two numbers are of rows and columns. ``stride`` is the distance of neighbouring positions in
    pixels, None where positions were mixed and have no place in the image. ``field`` is the side
    of what one position depends on, None where that grows with the image. ``offset`` is the
    place, in pixels from the first, of the centre of position 0, below 0 where padding moves it
    out of the image; None with the field.
    """

    channels: int
    stride: tuple[float | None, float | None]
    field: tuple[int | None, int | None]
    offset: tuple[float | None, float | None]


def receptive_fields(
    model: nn.Module, names: Sequence[str], *, channels: int = 3
) -> dict[str, Stage]:
    """Return what the outputs of some modules see, by name, in the order they are called first.

    Args:
        model: Any module on images [1, ``channels``, H, W]; on the meta device, or a copy is.
        names: Names of its modules, ``""`` for the model itself. Modules that are not called,
            or only after an operation that needs values, are left out.
        channels: Channels of the images.
    """
    if not all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        model = copy.deepcopy(model).to("meta")
    found: dict[str, Stage] = {}
    side = START
    while True:
        spans = _spans(model, names, side, channels)
        final = side >= LARGEST
        for name, (size, span) in spans.items():
            if final or all(axis.grows or _extent(axis) * 2 < side for axis in span):
                found.setdefault(name, _stage(size, span, side))
        if final or len(found) == len(spans):
            return {name: found[name] for name in spans}
        side *= 2


def _spans(
    model: nn.Module, names: Sequence[str], side: int, channels: int
) -> dict[str, tuple[int, Spans]]:
    """Run on an image of ``side`` x ``side``; return channels and spans of each module."""
    seen: dict[str, tuple[int, Spans]] = {}
    mode = _Follow()

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            for tensor in _tensors(output):
                if name not in seen and tensor.dim() == 4 and tensor in mode.spans:
                    seen[name] = (int(tensor.shape[1]), mode.spans[tensor])

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(note(name)) for name in names]
    image = torch.zeros((1, channels, side, side), device="meta")
    try:
        with _evaluating(model), torch.no_grad(), mode:
            mode.start(image)
            model(image)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        pass  # what came before is known
    finally:
        for hook in hooks:
            hook.remove()
    return seen


class _Follow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the spans of every tensor that depends on the image, and values of small indices."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spans: Any = WeakTensorKeyDictionary()
        self.values: Any = WeakTensorKeyDictionary()

    def start(self, image: Tensor) -> None:
        """Say that a tensor [N, C, H, W] is the image."""
        axes = [Span.of_image(int(side)) for side in image.shape[-2:]]
        self.spans[image] = (axes[0], axes[1])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [t for t in _tensors((args, kwargs)) if t in self.spans]
        if inputs:
            rule = rule_of(func)
            for output in _tensors(result):
                spans = rule(output, [(t, self.spans[t]) for t in inputs], args, self.values)
                if spans is not None:
                    self.spans[output] = spans
        else:
            self._remember(func, args, kwargs, result)
        return result

    def _remember(self, func: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """Compute index vectors for real: gathers of rows and columns need them."""
        if not isinstance(result, Tensor) or result.dim() > 1 or result.is_floating_point():
            return
        given = list(_tensors((args, kwargs)))
        if all(tensor in self.values for tensor in given):
            real = [self.values[a] if isinstance(a, Tensor) else a for a in args]
            there = {key: value for key, value in kwargs.items() if key != "device"}
            if not given:
                there["device"] = torch.device("cpu")
            self.values[result] = func(*real, **there)


def _stage(channels: int, spans: Spans, side: int) -> Stage:
    whole = [axis.grows or _extent(axis) >= side for axis in spans]
    middles = [_middle(axis) for axis in spans]
    fields = [None if w else _extent(axis) for w, axis in zip(whole, spans, strict=True)]
    offsets = [
        None if w else float(centre - place * axis.step)
        for w, axis, (place, centre) in zip(whole, spans, middles, strict=True)
    ]
    steps = [1.0 if len(axis) == side else float(axis.step) or None for axis in spans]
    return Stage(channels, (steps[0], steps[1]), (fields[0], fields[1]), (offsets[0], offsets[1]))


def _extent(axis: Span) -> int:
    return int((axis.last - axis.first).max()) + 1


def _middle(axis: Span) -> tuple[int, Fraction]:
    """Return a position that sees most and lies inside of the image, and the centre it sees."""
    sizes = axis.last - axis.first
    places = np.flatnonzero(sizes == sizes.max())
    place = int(places[len(places) // 2])
    return place, Fraction(int(axis.first[place] + axis.last[place]), 2)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    try:
        model.eval()
        yield
    finally:
        model.train(training)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
