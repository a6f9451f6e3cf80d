"""HRNet's trained weights, put into the network of ``hrnet``.

The authors' classifiers and timm name the same layers in the same order as here, but not alike;
their last layers, which make a classifier of the four branches, are left out.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import nn

from segbench.core.errors import DataError
from segbench.models.pretrained import State, read_state, timm_state

CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


def fill_hrnet(weights: str, name: str, parts: list[nn.Module]) -> None:
    """Fill the layers of HRNet in a network.

    Args:
        weights: ``none``, ``imagenet`` or a safetensors file with the names of timm and of the
            authors (``stage2.0.branches.0.0.conv1.weight``).
        name: timm's name of the classifier, ``hrnet_w18`` or ``hrnet_w48``.
        parts: Stem, transitions and stages in the order of the classifier.

    Raises:
        MissingDependency: ``imagenet`` weights cannot be downloaded.
        DataError: A file is no safetensors file or holds another network.
    """
    if weights == "none":
        return
    state = timm_state(name) if weights == "imagenet" else read_state(Path(weights))
    theirs = iter(_trunk(name))
    for part in parts:
        own = part.state_dict()
        part.load_state_dict({key: _fitting(state, next(theirs), own[key], weights) for key in own})


def _trunk(name: str) -> list[str]:
    with torch.device("meta"):
        classifier = timm.create_model(name)
    return [key for key in classifier.state_dict() if not key.startswith(CLASSIFIER)]


def _fitting(state: State, key: str, like: torch.Tensor, weights: str) -> torch.Tensor:
    if key not in state and key.endswith("num_batches_tracked"):
        return like
    if key not in state:
        raise DataError(
            f"weights {weights}: '{key}' is missing; the file holds {len(state)} tensors"
        )
    if state[key].shape != like.shape:
        expected, found = tuple(like.shape), tuple(state[key].shape)
        raise DataError(f"weights {weights}: '{key}' should have shape {expected}, found {found}")
    return state[key]
