"""SLaK: kernels of 51 rows by 5 columns and back, 40 % of the weights zero, with UPerNet's head.

Liu, Chen, Chen, Chen, Xiao, Wu, Kaerkkaeinen, Pechenizkiy, Mocanu, Wang, "More ConvNets in the
2020s: Scaling up Kernels Beyond 51x51 using Sparsity", ICLR 2023 (arXiv 2207.03620). ConvNeXt's
blocks, 1.3 times as wide, with the sum of a tall, a wide and a small kernel. At 150 classes,
auxiliary head counted: T 84,025,986, S 124,453,968, B 193,688,426 dense parameters. Without the
zeros, 40 % of the backbone's weights, these are 64.2, 88.5 and 131.2 million; the paper prints 65,
91 and 135, and which weights it leaves out beside these it does not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.layers import LayerNorm2d  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torchvision.ops import StochasticDepth

from segbench.core.errors import ConfigError
from segbench.layers.depthwise_sum import DepthwiseSum, merge
from segbench.models.backbones import Backbone, Features
from segbench.models.pretrained import load_weights
from segbench.models.registry import register_model
from segbench.models.upernet import UPerNet

PAPER = "More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity"
YEAR = 2023
TASK = "semantic"
MIN_BATCH = 2

KERNELS = (51, 49, 47, 13)
SMALL_KERNEL = 5
WIDTH_FACTOR = 1.3
SPARSITY = 0.4
EPS = 1e-6
MLP_RATIO = 4
WIDTHS = {
    "t": (96, 192, 384, 768),
    "s": (96, 192, 384, 768),
    "b": (128, 256, 512, 1024),
}
"""ConvNeXt's, before ``WIDTH_FACTOR``."""
DEPTHS = {"t": (3, 3, 9, 3), "s": (3, 3, 27, 3), "b": (3, 3, 27, 3)}


class SLaK(Backbone):
    """Four stages, each behind a step down, and a norm of each stage's output.

    Args:
        widths: Channels of the stages.
        depths: Blocks of the stages.
        kernels: Long sides of their kernels.
        sparsity: Share of the weights of every convolution and linear layer that is zero for
            good, drawn at random; 0 builds a dense network.
        layer_scale: First value of the factors of a block's output.
        drop_path: Probability at which the last block is left out in training; it rises from 0
            at the first.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        depths: Sequence[int],
        kernels: Sequence[int] = KERNELS,
        sparsity: float = SPARSITY,
        layer_scale: float = 1.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.downs = nn.ModuleList([_stem(widths[0])])
        self.downs.extend(_down(here, there) for here, there in pairwise(widths))
        self.stages = nn.ModuleList()
        for width, depth, kernel in zip(widths, depths, kernels, strict=True):
            blocks = [Block(width, kernel, layer_scale, rate) for rate in rates[:depth]]
            self.stages.append(nn.Sequential(*blocks))
            rates = rates[depth:]
        self.norms = nn.ModuleList(LayerNorm2d(width, eps=EPS) for width in widths)
        self.channels = {f"stride{4 << stage}": width for stage, width in enumerate(widths)}
        self.apply(_initialise)
        if sparsity:
            sparsify(self, sparsity)

    def forward(self, images: Tensor) -> Features:
        """Return normed features at strides 4, 8, 16 and 32 of images [N, 3, H, W]."""
        features = images
        maps: Features = {}
        for name, down, blocks, norm in zip(
            self.channels, self.downs, self.stages, self.norms, strict=True
        ):
            features = blocks(down(features))
            maps[name] = norm(features)
        return maps

    def layers(self) -> list[list[nn.Parameter]]:
        """Return stem and steps down as one layer and the blocks of each stage as another."""
        return [list(part.parameters()) for part in (self.downs, *self.stages)]

    def merge(self) -> None:
        """Replace the three kernels of each block by one; evaluation outputs stay equal."""
        merge(self)


class Block(nn.Module):
    """Tall + wide + small depthwise kernels, norm, two linear layers; added to its input."""

    def __init__(self, width: int, kernel: int, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        small = SMALL_KERNEL
        self.spatial = DepthwiseSum(width, ((kernel, small), (small, kernel), (small, small)))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), layer_scale))
        self.drop = StochasticDepth(drop_path, "row")

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, C, H, W] of [N, C, H, W]."""
        local = self.norm(self.spatial(features).permute(0, 2, 3, 1))
        added = (self.scale * self.mlp(local)).permute(0, 3, 1, 2)
        mixed: Tensor = features + self.drop(added)
        return mixed


class FixedZeros(nn.Module):
    """Keeps chosen weights at zero, whatever the optimiser does; the choice is in the state.

    Args:
        weight: The weight tensor.
        sparsity: Share that is zero, rounded to whole weights.
    """

    kept: Tensor

    def __init__(self, weight: Tensor, sparsity: float) -> None:
        super().__init__()
        order = torch.randperm(weight.numel(), device=weight.device)
        kept = order >= zeros_of(weight, sparsity)
        self.register_buffer("kept", kept.reshape(weight.shape))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its zeros."""
        return weight * self.kept


def sparsify(backbone: nn.Module, sparsity: float) -> None:
    """Fix a share of the weights of every convolution and linear layer at zero.

    Raises:
        ConfigError: The share is not in [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ConfigError(f"sparsity must be at least 0 and below 1, found {sparsity}")
    for layer in list(_weighted(backbone)):
        parametrize.register_parametrization(
            layer, "weight", FixedZeros(layer.weight, sparsity), unsafe=True
        )


def zeros_of(weight: Tensor, sparsity: float) -> int:
    """Return how many elements of one weight tensor a sparsity sets to zero."""
    return round(sparsity * weight.numel())


def nonzero_parameters(model: UPerNet, sparsity: float = SPARSITY) -> int:
    """Return the parameters of a model less the zeros of its backbone."""
    zeros = sum(zeros_of(layer.weight, sparsity) for layer in _weighted(model.backbone))
    return sum(parameter.numel() for parameter in model.parameters()) - zeros


def _weighted(module: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield layer


def _stem(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 4, stride=4), LayerNorm2d(width, eps=EPS))


def _down(here: int, there: int) -> nn.Sequential:
    return nn.Sequential(LayerNorm2d(here, eps=EPS), nn.Conv2d(here, there, 2, stride=2))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _upernet(
    num_classes: int,
    size: str,
    *,
    drop_path: float,
    backbone_weights: str = "none",
    sparsity: float = SPARSITY,
) -> UPerNet:
    widths = [int(WIDTH_FACTOR * width) for width in WIDTHS[size]]
    backbone = SLaK(widths, depths=DEPTHS[size], drop_path=drop_path, sparsity=sparsity)
    load_weights(backbone, backbone_weights)
    return UPerNet(num_classes, backbone=backbone)


@register_model("upernet_slak_t", display_name="UPerNet (SLaK-T)", backbone="slak_t")
def upernet_slak_t(num_classes: int, *, drop_path: float = 0.4, **options: Any) -> UPerNet:
    """Return UPerNet on SLaK-T: 84,025,986 parameters at 150 classes, zeros counted."""
    return _upernet(num_classes, "t", drop_path=drop_path, **options)


@register_model("upernet_slak_s", display_name="UPerNet (SLaK-S)", backbone="slak_s")
def upernet_slak_s(num_classes: int, *, drop_path: float = 0.3, **options: Any) -> UPerNet:
    """Return UPerNet on SLaK-S: 124,453,968 parameters at 150 classes, zeros counted."""
    return _upernet(num_classes, "s", drop_path=drop_path, **options)


@register_model("upernet_slak_b", display_name="UPerNet (SLaK-B)", backbone="slak_b")
def upernet_slak_b(num_classes: int, *, drop_path: float = 0.4, **options: Any) -> UPerNet:
    """Return UPerNet on SLaK-B: 193,688,426 parameters at 150 classes, zeros counted."""
    return _upernet(num_classes, "b", drop_path=drop_path, **options)


@register_model(
    "upernet_slak_tiny", display_name="UPerNet (SLaK, tiny)", backbone="slak", size="tiny"
)
def upernet_slak_tiny(num_classes: int, *, width: int = 48, sparsity: float = SPARSITY) -> UPerNet:
    """Return a small UPerNet on a small SLaK for a CPU."""
    backbone = SLaK(
        (16, 32, 48, 64), depths=(1, 1, 1, 1), kernels=(15, 13, 11, 7), sparsity=sparsity
    )
    return UPerNet(num_classes, backbone=backbone, width=width, aux_width=width, dropout=0.0)
