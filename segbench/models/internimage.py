"""InternImage: stages of deformable convolutions v3, with UPerNet's head.

Wang, Dai, Chen, Huang, Li, Zhu, Hu, Lu, Lu, Li, Wang, Qiao, "InternImage: Exploring
Large-Scale Vision Foundation Models with Deformable Convolutions", CVPR 2023 (arXiv 2211.05778).
At 150 classes, auxiliary head counted: T 59,077,148, S 79,866,956, B 128,387,852,
L 255,600,606, XL 367,733,000, H 1,120,338,396 parameters. The authors' table counts multiply-adds
at 512 x 2048 (T, S, B), 640 x 2560 (L, XL) and 896 x 896 (H).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from segbench.layers.dcnv3 import DCNv3
from segbench.models.backbones import Backbone, Features
from segbench.models.pretrained import load_weights
from segbench.models.registry import register_model
from segbench.models.upernet import UPerNet

PAPER = "InternImage: Exploring Large-Scale Vision Foundation Models with Deformable Convolutions"
YEAR = 2023
TASK = "semantic"
MIN_BATCH = 2

STAGES = 4
EPS = 1e-6
MLP_RATIO = 4


@dataclass(frozen=True)
class Stacking:
    """The four numbers a size is made of, and what sizes do differently.

    Stage i = 1..4 has C_i = 2^(i-1) C_1 channels in G_i = C_i / C' groups; L_1 = L_2 = L_4 <=
    L_3 blocks.
    """

    channels: int
    group_width: int
    depth: int
    third_depth: int
    norm: Literal["before", "after", "both"] = "after"
    """Where a block normalises: the input of a branch, its output, or both."""
    layer_scale: float | None = 1.0
    """First value of the factors of a block's branches; None: no factors."""
    offset_scale: float = 1.0
    depthwise_kernel: int = 3
    center_scale: bool = False
    third_norm_every: int = 0
    """In stage 3, one more norm after every so many blocks; 0: none."""

    @property
    def widths(self) -> tuple[int, ...]:
        """C_1 to C_4."""
        return tuple(self.channels << stage for stage in range(STAGES))

    @property
    def groups(self) -> tuple[int, ...]:
        """G_1 to G_4."""
        return tuple(width // self.group_width for width in self.widths)

    @property
    def depths(self) -> tuple[int, ...]:
        """L_1 to L_4."""
        return (self.depth, self.depth, self.third_depth, self.depth)


SIZES = {
    "t": Stacking(64, 16, 4, 18, norm="before"),
    "s": Stacking(80, 16, 4, 21),
    "b": Stacking(112, 16, 4, 21),
    "l": Stacking(160, 16, 5, 22, offset_scale=2.0),
    "xl": Stacking(192, 16, 5, 24, offset_scale=2.0),
    "h": Stacking(
        320,
        32,
        6,
        32,
        norm="both",
        layer_scale=None,
        depthwise_kernel=5,
        center_scale=True,
        third_norm_every=6,
    ),
}
TINY = Stacking(16, 8, 1, 2, norm="both", depthwise_kernel=5, center_scale=True)


class InternImage(Backbone):
    """Stem, four stages and three steps down, as the size's stacking says.

    Args:
        stacking: Widths, groups and depths.
        drop_path: Probability at which the last block's branches are left out in training; it
            rises from 0 at the first.
    """

    def __init__(self, stacking: Stacking, *, drop_path: float = 0.0) -> None:
        super().__init__()
        widths, depths = stacking.widths, stacking.depths
        self.stem = Stem(widths[0])
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(depths):
            self.stages.append(Stage(stacking, stage, rates[:depth]))
            rates = rates[depth:]
        self.downs = nn.ModuleList(Down(width) for width in widths[:-1])
        self.channels = {f"stride{4 << stage}": width for stage, width in enumerate(widths)}
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Features:
        """Return features at strides 4, 8, 16 and 32 of images [N, 3, H, W]."""
        features = self.stem(images)
        maps: Features = {}
        for stage, (name, blocks) in enumerate(zip(self.channels, self.stages, strict=True)):
            features = blocks(features if stage == 0 else self.downs[stage - 1](features))
            maps[name] = features.permute(0, 3, 1, 2).contiguous()
        return maps

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the stem, then each block; a step down belongs to the block behind it."""
        found = [list(self.stem.parameters())]
        between: list[nn.Parameter] = []
        for stage, down in zip(self.stages, [*self.downs, nn.Identity()], strict=True):
            assert isinstance(stage, Stage)
            parts = stage.parts()
            found.append([*between, *parts[0]])
            found += parts[1:]
            between = [*stage.last_norm.parameters(), *down.parameters()]
        found[-1] += between
        return found


class Stem(nn.Module):
    """Two 3x3 convolutions of stride 2: [N, 3, H, W] to [N, H / 4, W / 4, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.first_norm = nn.LayerNorm(channels // 2, eps=EPS)
        self.second = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.second_norm = nn.LayerNorm(channels, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Return features with channels last."""
        features = self.first_norm(self.first(images).permute(0, 2, 3, 1))
        features = nn.functional.gelu(features).permute(0, 3, 1, 2)
        normed: Tensor = self.second_norm(self.second(features).permute(0, 2, 3, 1))
        return normed


class Down(nn.Module):
    """3x3 convolution of stride 2 to twice the channels, and norm; channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * channels, eps=EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, H / 2, W / 2, 2 C] of [N, H, W, C]."""
        normed: Tensor = self.norm(self.conv(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return normed


class Stage(nn.Module):
    """The blocks of one stage; channels last.

    Args:
        stacking: The size.
        stage: 0 to 3.
        rates: Stochastic depth of each block.
    """

    def __init__(self, stacking: Stacking, stage: int, rates: list[float]) -> None:
        super().__init__()
        width = stacking.widths[stage]
        self.blocks = nn.ModuleList(
            Block(stacking, width, stacking.groups[stage], rate) for rate in rates
        )
        self.every = stacking.third_norm_every if stage == 2 else 0
        between = len(rates) // self.every if self.every else 0
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=EPS) for _ in range(between))
        last = stacking.norm != "after"
        self.last_norm: nn.Module = nn.LayerNorm(width, eps=EPS) if last else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, H, W, C] of [N, H, W, C]."""
        for done, block in enumerate(self.blocks, start=1):
            features = block(features)
            if self.every and done % self.every == 0:
                features = self.norms[done // self.every - 1](features)
        normed: Tensor = self.last_norm(features)
        return normed

    def parts(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each block with those of a norm that follows it."""
        found = [list(block.parameters()) for block in self.blocks]
        for number, norm in enumerate(self.norms, start=1):
            found[number * self.every - 1] += norm.parameters()
        return found


class Block(nn.Module):
    """Deformable convolution, then two linear layers, each added to its input."""

    def __init__(self, stacking: Stacking, width: int, groups: int, drop_path: float) -> None:
        super().__init__()
        sampling = DCNv3(
            width,
            groups,
            depthwise_kernel=stacking.depthwise_kernel,
            offset_scale=stacking.offset_scale,
            center_scale=stacking.center_scale,
        )
        mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
        )
        self.sampling = Branch(sampling, width, stacking, drop_path)
        self.mlp = Branch(mlp, width, stacking, drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, H, W, C] of [N, H, W, C]."""
        mixed: Tensor = self.mlp(self.sampling(features))
        return mixed


class Branch(nn.Module):
    """``features + scale * norm(inner(norm(features)))``, with the norms of the size."""

    def __init__(self, inner: nn.Module, width: int, stacking: Stacking, drop_path: float) -> None:
        super().__init__()
        before, after = stacking.norm != "after", stacking.norm != "before"
        self.before = nn.LayerNorm(width, eps=EPS) if before else nn.Identity()
        self.inner = inner
        self.after = nn.LayerNorm(width, eps=EPS) if after else nn.Identity()
        self.drop = StochasticDepth(drop_path, "row")
        self.scale = None
        if stacking.layer_scale is not None:
            self.scale = nn.Parameter(torch.full((width,), stacking.layer_scale))

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, H, W, C] of [N, H, W, C]."""
        added = self.after(self.inner(self.before(features)))
        if self.scale is not None:
            added = self.scale * added
        mixed: Tensor = features + self.drop(added)
        return mixed


def _initialise(module: nn.Module) -> None:
    """Draw linear layers from a narrow normal; sampling layers keep their own start."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, DCNv3):
        module.reset_parameters()


def internimage(size: str, *, weights: str = "none", drop_path: float = 0.0) -> InternImage:
    """Return a backbone of a published size.

    Args:
        size: A key of ``SIZES``.
        weights: ``none`` or the path of a safetensors file with the backbone's parameters.
        drop_path: Probability at which the last block's branches are left out in training; it
            rises from 0 at the first.
    """
    backbone = InternImage(SIZES[size], drop_path=drop_path)
    load_weights(backbone, weights)
    return backbone


def _upernet(
    num_classes: int, size: str, *, backbone_weights: str = "none", drop_path: float = 0.4
) -> UPerNet:
    backbone = internimage(size, weights=backbone_weights, drop_path=drop_path)
    return UPerNet(num_classes, backbone=backbone)


@register_model(
    "upernet_internimage_t", display_name="UPerNet (InternImage-T)", backbone="internimage_t"
)
def upernet_internimage_t(num_classes: int, *, drop_path: float = 0.2, **options: Any) -> UPerNet:
    """Return UPerNet on InternImage-T: 59,077,148 parameters at 150 classes."""
    return _upernet(num_classes, "t", drop_path=drop_path, **options)


@register_model(
    "upernet_internimage_s", display_name="UPerNet (InternImage-S)", backbone="internimage_s"
)
def upernet_internimage_s(num_classes: int, *, drop_path: float = 0.3, **options: Any) -> UPerNet:
    """Return UPerNet on InternImage-S: 79,866,956 parameters at 150 classes."""
    return _upernet(num_classes, "s", drop_path=drop_path, **options)


@register_model(
    "upernet_internimage_b", display_name="UPerNet (InternImage-B)", backbone="internimage_b"
)
def upernet_internimage_b(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on InternImage-B: 128,387,852 parameters at 150 classes."""
    return _upernet(num_classes, "b", **options)


@register_model(
    "upernet_internimage_l", display_name="UPerNet (InternImage-L)", backbone="internimage_l"
)
def upernet_internimage_l(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on InternImage-L: 255,600,606 parameters at 150 classes."""
    return _upernet(num_classes, "l", **options)


@register_model(
    "upernet_internimage_xl", display_name="UPerNet (InternImage-XL)", backbone="internimage_xl"
)
def upernet_internimage_xl(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on InternImage-XL: 367,733,000 parameters at 150 classes."""
    return _upernet(num_classes, "xl", **options)


@register_model(
    "upernet_internimage_h", display_name="UPerNet (InternImage-H)", backbone="internimage_h"
)
def upernet_internimage_h(num_classes: int, **options: Any) -> UPerNet:
    """Return UPerNet on InternImage-H: 1,120,338,396 parameters at 150 classes."""
    return _upernet(num_classes, "h", **options)


@register_model(
    "upernet_internimage_tiny",
    display_name="UPerNet (InternImage, tiny)",
    backbone="internimage",
    size="tiny",
)
def upernet_internimage_tiny(num_classes: int, *, width: int = 48) -> UPerNet:
    """Return a small UPerNet on a small InternImage for a CPU."""
    backbone = InternImage(TINY)
    return UPerNet(num_classes, backbone=backbone, width=width, aux_width=width, dropout=0.0)
