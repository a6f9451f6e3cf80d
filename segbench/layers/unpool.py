"""Max-pooling that remembers where its values came from, and ways back to the larger map.

Noh, Hong and Han (DeconvNet, ICCV 2015) and Badrinarayanan, Kendall and Cipolla (SegNet, TPAMI
2017) put pooled values back where they were found; a bed of nails puts them in the first corner
of each window instead, nearest-neighbour upsampling everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int]
Memory = list[tuple[Tensor, Size]]


def max_pool_with_places(features: Tensor) -> tuple[Tensor, Tensor, Size]:
    """Return the 2x2 maxima of [N, C, H, W], their places in it, and its size (H, W)."""
    pooled, places = functional.max_pool2d(features, 2, return_indices=True)
    return pooled, places, (features.shape[-2], features.shape[-1])


def pool_through(stages: Iterable[nn.Module], images: Tensor) -> tuple[Tensor, Memory]:
    """Return the features after every stage and its pooling, and what unpooling needs.

    The memory holds, for each pooling, the places of the maxima and the size before it.
    """
    features, memory = images, []
    for stage in stages:
        features, places, size = max_pool_with_places(stage(features))
        memory.append((places, size))
    return features, memory


def max_unpool(features: Tensor, places: Tensor, size: Size) -> Tensor:
    """Return zeros [N, C, *size] with the values of ``features`` at their places.

    ``features`` may have fewer channels than ``places``: the first of those are taken.
    """
    flat = features.new_zeros(*features.shape[:2], size[0] * size[1])
    where = places[:, : features.shape[1]].flatten(2)
    spread = flat.scatter(2, where, features.flatten(2))
    return spread.reshape(*features.shape[:2], *size)


def bed_of_nails(features: Tensor, size: Size) -> Tensor:
    """Return zeros [N, C, *size] with each value in the first corner of its 2x2 window."""
    spread = features.new_zeros(*features.shape[:2], *size)
    height, width = features.shape[-2:]
    spread[..., : 2 * height : 2, : 2 * width : 2] = features
    return spread


def nearest(features: Tensor, size: Size) -> Tensor:
    """Return [N, C, *size] with each value repeated over its window."""
    return functional.interpolate(features, size=size, mode="nearest")
