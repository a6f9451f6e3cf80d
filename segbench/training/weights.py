"""Weights on disk: the one module that knows safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
from torch import Tensor, nn

from segbench.core.errors import TrainingError
from segbench.core.files import atomic_path


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights of a model as safetensors, atomically.

    Raises:
        TrainingError: A number is not finite.
    """
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    refuse_non_finite(weights, "the network that is to be saved", fix="lower base_lr in the recipe")
    content = safetensors.torch.save(_without_sharing(weights), metadata={"format": "pt"})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors weights into a model.

    Raises:
        TrainingError: The file is missing, damaged or of another model or number of classes,
            or holds numbers that are not finite.
    """
    try:
        weights = cast(Mapping[str, Tensor], safetensors.torch.load_file(str(path)))
    except FileNotFoundError as error:
        raise TrainingError(f"{path} does not exist", fix="train the experiment first") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise TrainingError(
            f"{path} is no readable safetensors file: {error}", fix="train the experiment again"
        ) from error
    load_weights_into(model, weights, str(path))
    refuse_non_finite(weights, str(path), fix="train the experiment again")


def _without_sharing(weights: dict[str, Any]) -> dict[str, Any]:
    """Copy tensors that share memory, which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result


def load_weights_into(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights after checking every name and shape.

    Args:
        model: Gets the weights.
        weights: Name -> tensor.
        source: Where they come from, for the message.

    Raises:
        TrainingError: A tensor is missing, unknown or of another shape, as with weights
            for another number of classes.
    """
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    wrong = [
        f"{name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        raise TrainingError(
            f"{source} does not fit the model: {len(wrong)} of {len(expected)} tensors differ, "
            f"first {'; '.join(wrong[:3])}",
            fix="use weights of this model with the same classes and options",
        )
    model.load_state_dict(dict(weights))


def refuse_non_finite(weights: Mapping[str, Tensor], source: str, *, fix: str) -> None:
    """Refuse weights with NaN or infinity, which would predict one class everywhere.

    Args:
        weights: Name -> tensor.
        source: Where they come from, for the message.
        fix: What to do next.

    Raises:
        TrainingError: Naming the tensors.
    """
    bad = [n for n, t in weights.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise TrainingError(
            f"{source}: {len(bad)} of {len(weights)} tensors hold NaN or infinity, first "
            f"{', '.join(bad[:3])}",
            fix=fix,
        )
