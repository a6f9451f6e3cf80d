"""Copy our weights into a reference: layers in the order of their first call, by shape.

Both networks run once; the n-th layer with weights that one calls is the n-th of the other. Names
play no part. What a reference calls in another order, or keeps fused or split, its pair says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SAME_NAME = {"layer_scale_parameter": "gamma"}
IGNORED = ("num_batches_tracked", "relative_position_index")

Layers = list[tuple[str, nn.Module]]


def called_layers(model: nn.Module, run: Callable[[nn.Module], Any]) -> Layers:
    """Return the layers that own weights, by name, in the order of their first call."""
    names = {module: name for name, module in registered_layers(model)}
    found: dict[str, nn.Module] = {}

    def note(module: nn.Module, _: Any) -> None:
        found.setdefault(names[module], module)

    hooks = [module.register_forward_pre_hook(note) for module in names]
    with torch.no_grad():
        run(model)
    for hook in hooks:
        hook.remove()
    return list(found.items())


def registered_layers(model: nn.Module) -> Layers:
    """Return the layers that own weights, by name, in the order in which they were made."""
    return [(name, module) for name, module in model.named_modules() if own_tensors(module)]


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and stored buffers of a module itself."""
    tensors = dict(module._parameters) | {
        name: buffer
        for name, buffer in module._buffers.items()
        if name not in module._non_persistent_buffers_set
    }
    return {
        SAME_NAME.get(name, name): tensor
        for name, tensor in tensors.items()
        if tensor is not None and name not in IGNORED
    }


def copy_layers(ours: Layers, reference: Layers) -> None:
    """Copy each of our layers into the next one of the reference that has its shapes.

    Raises:
        AssertionError: A layer of either side has no partner.
    """
    left = list(reference)
    for name, module in ours:
        shapes = _shapes(module)
        place = next((i for i, (_, other) in enumerate(left) if _shapes(other) == shapes), None)
        assert place is not None, f"no partner of ours {name} {shapes} among {_named(left)}"
        _copy(left.pop(place)[1], module)
    assert not left, f"the reference has more layers: {_named(left)}"


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's tensors; a 1x1 convolution equals a linear layer."""
    return {name: _trimmed(tensor.shape) for name, tensor in sorted(own_tensors(module).items())}


def _trimmed(shape: torch.Size) -> tuple[int, ...]:
    sides = tuple(shape)
    while len(sides) > 1 and sides[-1] == 1:
        sides = sides[:-1]
    return sides


def _copy(target: nn.Module, source: nn.Module) -> None:
    values = own_tensors(source)
    with torch.no_grad():
        for name, tensor in own_tensors(target).items():
            tensor.copy_(values[name].reshape(tensor.shape))


def _named(layers: Layers) -> list[tuple[str, dict[str, tuple[int, ...]]]]:
    return [(name, _shapes(module)) for name, module in layers[:8]]
