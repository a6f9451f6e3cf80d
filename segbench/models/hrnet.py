"""HRNetV2.

Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", arXiv 1904.04514,
and Wang et al., TPAMI 2020. Branches of four resolutions side by side, fused again and again;
the head reads all of them at stride 4. Counts follow mmsegmentation's FCN head: 9,640,849 (W18)
and 65,858,659 (W48) parameters at 19 classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.bottleneck import Bottleneck
from segbench.layers.conv import ConvNormAct, conv_norm, resize
from segbench.layers.residual_trunk import ResidualBlock
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.hrnet_weights import fill_hrnet
from segbench.models.registry import register_model

PAPER = "High-Resolution Representations for Labeling Pixels and Regions"
YEAR = 2019
TASK = "semantic"

MODULES = (1, 4, 3)
"""Fused modules of the stages with two, three and four branches."""
BLOCKS = 4
"""Residual blocks of a branch in one module."""
STEM = 64


class Fusion(nn.Module):
    """Every branch plus all others, brought to its resolution and width, added up."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Return the fused branches, each at its own size."""
        fused = []
        for paths, own in zip(self.paths, branches, strict=True):
            size = (own.shape[-2], own.shape[-1])
            pairs = zip(paths.children(), branches, strict=True)
            parts = [resize(path(branch), size) for path, branch in pairs]
            fused.append(functional.relu(torch.stack(parts).sum(0)))
        return fused


class FusedModule(nn.Module):
    """Residual blocks in every branch, then fusion."""

    def __init__(self, widths: tuple[int, ...], *, blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.fuse = Fusion(widths)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Return branches of the same shapes."""
        worked = [blocks(b) for blocks, b in zip(self.branches, branches, strict=True)]
        fused: list[Tensor] = self.fuse(worked)
        return fused


class HRNetV2(nn.Module):
    """Stem to stride 4, then stages of two, three and four branches.

    ``channels`` is the width of the four branches side by side.

    Args:
        width: Channels of the finest branch; each coarser one has twice as many.
        modules: Fused modules of the three stages.
        blocks: Residual blocks of a branch in one module.
        stem_blocks: Bottlenecks of the first stage.
    """

    def __init__(
        self,
        width: int,
        *,
        modules: tuple[int, ...] = MODULES,
        blocks: int = BLOCKS,
        stem_blocks: int = 4,
    ) -> None:
        super().__init__()
        widths = tuple(width * 2**i for i in range(len(modules) + 1))
        self.channels = sum(widths)
        self.stem = nn.Sequential(
            ConvNormAct(3, STEM, stride=2),
            ConvNormAct(STEM, STEM, stride=2),
            Bottleneck(STEM, STEM, 4 * STEM),
            *(Bottleneck(4 * STEM, STEM, 4 * STEM) for _ in range(stem_blocks - 1)),
        )
        self.first = ConvNormAct(4 * STEM, width)
        below = (4 * STEM, *widths[1:-1])
        self.grow = nn.ModuleList(
            ConvNormAct(source, own, stride=2)
            for source, own in zip(below, widths[1:], strict=True)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(FusedModule(widths[: n + 2], blocks=blocks) for _ in range(count))
            for n, count in enumerate(modules)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return all branches at stride 4, [N, channels, H / 4, W / 4]."""
        features = self.stem(images)
        branches = [self.first(features)]
        for grow, stage in zip(self.grow, self.stages, strict=True):
            branches.append(grow(features if len(branches) == 1 else branches[-1]))
            for module in stage.children():
                branches = module(branches)
        size = (branches[0].shape[-2], branches[0].shape[-1])
        return torch.cat([resize(branch, size) for branch in branches], dim=1)


class HRNet(SemanticModel):
    """HRNetV2 and its head: a 1x1 convolution over all branches, a classifier.

    Args:
        num_classes: Output channels.
        network: Options of ``HRNetV2``.
    """

    def __init__(self, num_classes: int, *, network: HRNetV2) -> None:
        super().__init__(num_classes)
        self.backbone = network
        self.head = fcn_head(network.channels, num_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        logits = self.head(self.backbone(images))
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}


def fcn_head(channels: int, num_classes: int) -> nn.Sequential:
    """Return a 1x1 convolution with BatchNorm and ReLU, and a classifier."""
    return nn.Sequential(
        ConvNormAct(channels, channels, kernel=1), nn.Conv2d(channels, num_classes, 1)
    )


def _path(widths: tuple[int, ...], source: int, target: int) -> nn.Module:
    """Return what brings branch ``source`` to the width and, going down, size of ``target``."""
    if source == target:
        return nn.Identity()
    if source > target:
        return conv_norm(widths[source], widths[target])
    steps: list[nn.Module] = [
        ConvNormAct(widths[source], widths[source], stride=2) for _ in range(target - source - 1)
    ]
    return nn.Sequential(*steps, conv_norm(widths[source], widths[target], kernel=3, stride=2))


def hrnet(width: int, *, weights: str = "none") -> HRNetV2:
    """Return a network of a published width, 18 or 48; weights as in ``fill_hrnet``."""
    network = HRNetV2(width)
    parts: list[nn.Module] = [network.stem, network.first]
    for grow, stage in zip(network.grow, network.stages, strict=True):
        parts += [grow, stage]
    fill_hrnet(weights, f"hrnet_w{width}", parts)
    return network


@register_model("hrnet_w18", display_name="HRNetV2-W18")
def hrnet_w18(num_classes: int, *, backbone_weights: str = "none") -> HRNet:
    """Return HRNetV2-W18: 9,640,849 parameters at 19 classes."""
    return HRNet(num_classes, network=hrnet(18, weights=backbone_weights))


@register_model("hrnet_w48", display_name="HRNetV2-W48")
def hrnet_w48(num_classes: int, *, backbone_weights: str = "none") -> HRNet:
    """Return HRNetV2-W48: 65,858,659 parameters at 19 classes."""
    return HRNet(num_classes, network=hrnet(48, weights=backbone_weights))


def tiny_network(width: int) -> HRNetV2:
    """Return three branches of one block each, for a CPU."""
    return HRNetV2(width, modules=(1, 1), blocks=1, stem_blocks=1)


@register_model("hrnet_tiny", display_name="HRNetV2 (tiny)", size="tiny")
def hrnet_tiny(num_classes: int, *, width: int = 24) -> HRNet:
    """Return a small HRNetV2 for a CPU."""
    return HRNet(num_classes, network=tiny_network(width))
