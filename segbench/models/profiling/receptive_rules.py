"""How single tensor operations move the spans of ``segbench.models.profiling.receptive_field``.

A rule takes an output, the inputs that depend on the image with their spans, the arguments of
the operation and the values of known index vectors, and returns the spans of the output. An
axis of length 1 goes with every position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOTHING = (1 << 40, -(1 << 40))
"""First and last pixel of a position that is padding."""
IntVector = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """First and last pixel of the image each position of one axis depends on; int64 [L].

    ``step`` is the distance in pixels between neighbouring positions, 0 where positions have lost
    their place in the image; ``grows`` says that what
    a position depends on grows with the image, as with a mean over all of it.
    """

    first: IntVector
    last: IntVector
    step: Fraction
    grows: bool = False

    @classmethod
    def of_image(cls, size: int) -> Span:
        """Return the span of the image itself."""
        return cls(np.arange(size), np.arange(size), Fraction(1))

    def __len__(self) -> int:
        return len(self.first)

    def taken(self, taps: Sequence[IntVector], step: Fraction) -> Span:
        """Return the span of positions that each read one position a tap; -1 reads nothing."""
        first = np.full(len(taps[0]), NOTHING[0])
        last = np.full(len(taps[0]), NOTHING[1])
        for tap in taps:
            inside = (tap >= 0) & (tap < len(self))
            place = np.where(inside, tap, 0)
            first = np.minimum(first, np.where(inside, self.first[place], NOTHING[0]))
            last = np.maximum(last, np.where(inside, self.last[place], NOTHING[1]))
        return Span(first, last, step, self.grows)

    def over(self, size: int) -> Span:
        """Return the span of ``size`` positions that all depend on all of this."""
        first, last = np.full(size, self.first.min()), np.full(size, self.last.max())
        grows = self.grows or len(self) > 1
        return Span(first, last, self.step * Fraction(len(self), max(size, 1)), grows)

    def joined(self, other: Span) -> Span:
        """Return the span of a sum; an axis of length 1 is repeated."""
        one, two = np.broadcast_arrays(self.first, other.first)
        end, stop = np.broadcast_arrays(self.last, other.last)
        longer, shorter = (self, other) if len(self) >= len(other) else (other, self)
        step = longer.step or shorter.step
        grows = self.grows or other.grows
        return Span(np.minimum(one, two), np.maximum(end, stop), step, grows)


Spans = tuple[Span, Span]
Inputs = Sequence[tuple[Tensor, Spans]]
Rule = Callable[[Tensor, Inputs, Any, Any], Spans | None]
_rules: dict[Any, Rule] = {}
aten: Any = torch.ops.aten


def rule_of(operation: Any) -> Rule:
    """Return the rule of an operation of ATen; ``pointwise`` where it has none of its own."""
    return _rules.get(getattr(operation, "overloadpacket", operation), pointwise)


def _rule(*operations: Any) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _rules.update(dict.fromkeys(operations, rule))
        return rule

    return register


def pointwise(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans | None:
    """Positions stay where they are if the sizes say so; else everything sees everything."""
    if output.dim() < 2:
        return inputs[0][1]
    size = (int(output.shape[-2]), int(output.shape[-1]))
    if all(_fits(spans, size) for _, spans in inputs) and output.dim() >= 4:
        spans = inputs[0][1]
        for _, other in inputs[1:]:
            spans = (spans[0].joined(other[0]), spans[1].joined(other[1]))
        return _grown(spans, size)
    return _mixed(inputs, size if output.dim() >= 4 else None)


def _fits(spans: Spans, size: tuple[int, int]) -> bool:
    return all(len(axis) in (1, side) for axis, side in zip(spans, size, strict=True))


def _grown(spans: Spans, size: tuple[int, int]) -> Spans:
    rows, columns = (
        axis if len(axis) == side else axis.over(side)
        for axis, side in zip(spans, size, strict=True)
    )
    return rows, columns


def _mixed(inputs: Inputs, size: tuple[int, int] | None) -> Spans:
    """Return spans where all positions depend on all inputs, without a place of their own."""
    rows, columns = inputs[0][1]
    rows, columns = rows.over(len(rows)), columns.over(len(columns))
    for _, (other_rows, other_columns) in inputs[1:]:
        rows = rows.joined(other_rows.over(1))
        columns = columns.joined(other_columns.over(1))
    if size is not None:
        rows, columns = rows.over(size[0]), columns.over(size[1])
    return replace(rows, step=Fraction(0)), replace(columns, step=Fraction(0))


@_rule(aten.convolution, aten.convolution_overrideable)
def _convolution(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    if output.dim() != 4:
        return _mixed(inputs, None)
    weight, _, stride, padding, dilation, transposed = args[1:7]
    move = _transposed if transposed else _window
    axes = [
        move(
            inputs[0][1][a], int(output.shape[2 + a]), int(weight.shape[2 + a]),
            _of(stride, a), _of(padding, a), _of(dilation, a),
        )
        for a in (0, 1)
    ]  # fmt: skip
    return axes[0], axes[1]


@_rule(aten.max_pool2d_with_indices, aten.max_pool2d, aten.avg_pool2d)
def _pool(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    kernel = args[1]
    stride = args[2] if len(args) > 2 and args[2] else kernel
    padding = args[3] if len(args) > 3 else 0
    average = len(args) > 4 and isinstance(args[4], bool)
    dilation = 1 if average or len(args) <= 4 else args[4]
    axes = [
        _window(
            inputs[0][1][a], int(output.shape[-2 + a]), _of(kernel, a), _of(stride, a),
            _of(padding, a), _of(dilation, a),
        )
        for a in (0, 1)
    ]  # fmt: skip
    return axes[0], axes[1]


def _window(axis: Span, size: int, kernel: int, stride: int, padding: int, dilation: int) -> Span:
    starts = np.arange(size) * stride - padding
    return axis.taken([starts + dilation * t for t in range(kernel)], axis.step * stride)


def _transposed(
    axis: Span, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> Span:
    taps = []
    for t in range(kernel):
        place = np.arange(size) + padding - dilation * t
        taps.append(np.where(place % stride == 0, place // stride, -1))
    return axis.taken(taps, axis.step / stride)


@_rule(aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d)
def _adaptive(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    axes = []
    for axis, size in zip(inputs[0][1], output.shape[-2:], strict=True):
        size, length = int(size), len(axis)
        starts, ends = np.arange(size) * length // size, -(-(np.arange(size) + 1) * length // size)
        taps = [np.minimum(starts + t, ends - 1) for t in range(int((ends - starts).max()))]
        moved = axis.taken(taps, axis.step * Fraction(length, size))
        axes.append(replace(moved, grows=axis.grows or size < length))
    return axes[0], axes[1]


@_rule(aten.upsample_bilinear2d, aten._upsample_bilinear2d_aa)
def _bilinear(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    corners = bool(args[2])
    axes = []
    for axis, size in zip(inputs[0][1], output.shape[-2:], strict=True):
        place = np.arange(int(size))
        if corners:
            where = place * ((len(axis) - 1) / max(int(size) - 1, 1))
        else:
            where = np.maximum((place + 0.5) * (len(axis) / int(size)) - 0.5, 0)
        low = np.floor(where + 1e-9).astype(np.int64)
        high = np.minimum(np.ceil(where - 1e-9).astype(np.int64), len(axis) - 1)
        axes.append(axis.taken([low, high], axis.step * Fraction(len(axis), int(size))))
    return axes[0], axes[1]


@_rule(aten.upsample_nearest2d, aten._upsample_nearest_exact2d)
def _nearest(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    return _spread(inputs[0][1], (int(output.shape[-2]), int(output.shape[-1])))


def _spread(spans: Spans, size: tuple[int, int]) -> Spans:
    """Repeat each position over the window it grows into, as unpooling does."""
    axes = [
        axis.taken([np.arange(side) * len(axis) // side], axis.step * Fraction(len(axis), side))
        for axis, side in zip(spans, size, strict=True)
    ]
    return axes[0], axes[1]


@_rule(aten.constant_pad_nd)
def _pad(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    margins = [*args[1], 0, 0, 0, 0]
    rows, columns = inputs[0][1]
    down, right = np.arange(int(output.shape[-2])), np.arange(int(output.shape[-1]))
    return (
        rows.taken([down - margins[2]], rows.step),
        columns.taken([right - margins[0]], columns.step),
    )


@_rule(aten.slice, aten.index_select)
def _pick(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans | None:
    """Some positions of one axis, in any order."""
    tensor, spans = inputs[0]
    if tensor.dim() != 4:
        return spans
    axis = (args[1] if len(args) > 1 else 0) % 4 - 2
    if axis < 0:
        return spans
    if len(args) == 3 and isinstance(args[2], Tensor):
        if args[2] not in values:
            return _mixed(inputs, (int(output.shape[-2]), int(output.shape[-1])))
        places = values[args[2]].numpy().astype(np.int64)
        step = 1
    else:
        start = args[2] if len(args) > 2 and args[2] is not None else 0
        step = args[4] if len(args) > 4 else 1
        length = len(spans[axis])
        start = max(start + length, 0) if start < 0 else min(start, length)
        places = start + step * np.arange(int(output.shape[2 + axis]))
    moved = spans[axis].taken([places], spans[axis].step * step)
    return (moved, spans[1]) if axis == 0 else (spans[0], moved)


@_rule(aten.reflection_pad2d, aten.replication_pad2d)
def _mirror(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    left, _, top, _ = args[1]
    axes = []
    for axis, size, margin in zip(inputs[0][1], output.shape[-2:], (top, left), strict=True):
        place = np.abs(np.arange(int(size)) - margin)
        place = np.minimum(place, 2 * (len(axis) - 1) - place)
        axes.append(axis.taken([np.clip(place, 0, len(axis) - 1)], axis.step))
    return axes[0], axes[1]


@_rule(aten.view, aten._unsafe_view, aten.reshape)
def _view(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans | None:
    """Flattened positions stay apart; where they come back in a larger map, they were unpooled."""
    tensor, spans = inputs[0]
    area = len(spans[0]) * len(spans[1])
    if output.dim() == 3 and int(output.shape[-1]) == area and tensor.dim() == 4:
        return spans
    if output.dim() == 4 and tensor.dim() == 3:
        size = (int(output.shape[-2]), int(output.shape[-1]))
        if int(tensor.shape[-1]) == size[0] * size[1]:
            return spans if _fits(spans, size) else _spread(spans, size)
    return pointwise(output, inputs, args, values)


@_rule(aten.scatter)
def _scatter(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans:
    """Unpooling of flattened maps: values go back into the window they came from."""
    return inputs[-1][1]


@_rule(aten.mean, aten.sum, aten.amax, aten.bmm, aten.mm, aten.addmm, aten._softmax)
def _reduction(output: Tensor, inputs: Inputs, args: Any, values: Any) -> Spans | None:
    """Over channels positions stay apart; otherwise they are mixed."""
    if output.dim() >= 4:
        size = (int(output.shape[-2]), int(output.shape[-1]))
        axes, dims = inputs[0][0].dim(), args[1] if len(args) > 1 else None
        dims = [dims] if isinstance(dims, int) else dims or [-1]
        if all(d % axes < axes - 2 for d in dims) and _fits(inputs[0][1], size):
            return pointwise(output, inputs, args, values)
        return _mixed(inputs, size)
    return _mixed(inputs, None)


def _of(value: Any, axis: int) -> int:
    """Return the number of an axis of an argument that may be one number for both."""
    if isinstance(value, Mapping):
        raise TypeError(f"not a number: {value}")
    if isinstance(value, list | tuple):
        return int(value[axis] if len(value) > 1 else value[0])
    return int(value)
