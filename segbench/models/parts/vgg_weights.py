"""VGG-16's trained weights, put into the networks that are built from its layers.

They come as torchvision's whole classifier: thirteen convolutions, with BatchNorm behind each or
without, and fully connected layers, which become convolutions by giving their weights the shape
of a window (Long, Shelhamer and Darrell, CVPR 2015).
"""

from __future__ import annotations

from torch import Tensor, nn

from segbench.core.errors import DataError
from segbench.models.pretrained import classifier_state

FULLY_CONNECTED = ("classifier.0", "classifier.3")
"""torchvision's names of fc6 and fc7."""


def fill_vgg16(weights: str, encoder: nn.Module, *fully_connected: nn.Module) -> None:
    """Fill the layers of VGG-16 in a network.

    Args:
        weights: ``none``, ``imagenet`` or a safetensors file of torchvision's ``vgg16`` or, where
            the encoder has BatchNorm, ``vgg16_bn``; without it in the file, that of the encoder
            keeps its start.
        encoder: Holds the thirteen convolutions, and no other, in their order.
        *fully_connected: fc6 and fc7 as convolutions; those not given are left out.

    Raises:
        MissingDependency: ``imagenet`` weights cannot be downloaded.
        DataError: A file is no safetensors file or holds another network.
    """
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    layers = [layer for layer in encoder.modules() if isinstance(layer, kinds)]
    norm = any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    state = classifier_state(*(("vgg16_bn", "vgg16") if norm else ("vgg16",)), weights=weights)
    if state is None:
        return
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        layer, _, key = name.rpartition(".")
        parts.setdefault(layer, {})[key] = tensor
    theirs = [part for name, part in parts.items() if name.startswith("features.")]
    if not any("running_mean" in part for part in theirs):
        layers = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    theirs += [parts[name] for name in FULLY_CONNECTED[: len(fully_connected)]]
    for own, part in zip([*layers, *fully_connected], theirs, strict=True):
        _fill(own, part)


def _fill(layer: nn.Module, part: dict[str, Tensor]) -> None:
    own = layer.state_dict()
    for name, tensor in part.items():
        if tensor.numel() != own[name].numel():
            raise DataError(
                f"VGG-16's layer of shape {tuple(tensor.shape)} does not fit one of shape "
                f"{tuple(own[name].shape)}"
            )
    layer.load_state_dict({**own, **{k: v.reshape(own[k].shape) for k, v in part.items()}})
