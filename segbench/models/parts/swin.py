"""Swin Transformer as a backbone, on images of any size.

Liu, Lin, Cao et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
ICCV 2021 (arXiv 2103.14030). Blocks and patch merging are torchvision's: attention within
windows, every second block with windows moved by half their side and attention across the seam
masked; maps are padded to whole windows and cropped again, so any size is accepted. Where one
window holds a whole side of the map it is not moved along it, as in the authors' classifier
(mmsegmentation moves it all the same; at stride 32 this concerns sides of up to 224 pixels).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformer

from segbench.models.backbones import Backbone, Features
from segbench.models.pretrained import State, load_weights, torchvision_state

PATCH = 4


@dataclass(frozen=True)
class SwinShape:
    """Width of the first stage, blocks and attention heads a stage, side of a window."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int = 7


SHAPES = {
    "swin_t": SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_s": SwinShape(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_b": SwinShape(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "swin_l": SwinShape(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12),
}
WITH_WEIGHTS = ("swin_t", "swin_s", "swin_b")
"""Those that torchvision has ImageNet weights of, all with windows of 7."""


class Swin(Backbone):
    """Four stages at strides 4, 8, 16 and 32, without output norms.

    Parameter names are torchvision's.

    Args:
        shape: Widths, depths, heads, window.
        drop_path: Probability at which the last block is left out in training; it rises from 0
            at the first.
    """

    def __init__(self, shape: SwinShape, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.features = SwinTransformer(
            patch_size=[PATCH, PATCH],
            embed_dim=shape.width,
            depths=list(shape.depths),
            num_heads=list(shape.heads),
            window_size=[shape.window, shape.window],
            stochastic_depth_prob=drop_path,
            num_classes=1,
        ).features
        self.channels = {f"stride{PATCH << i}": shape.width << i for i in range(4)}

    def forward(self, images: Tensor) -> Features:
        """Return features by stride; a map of stride s has ``ceil(H / s)`` rows."""
        height, width = images.shape[-2:]
        tokens = functional.pad(images, (0, -width % PATCH, 0, -height % PATCH))
        maps: Features = {}
        for index, name in enumerate(self.channels):
            tokens = self.features[2 * index + 1](self.features[2 * index](tokens))
            maps[name] = tokens.permute(0, 3, 1, 2)
        return maps


def create_swin(name: str, *, weights: str = "none", drop_path: float = 0.0) -> Swin:
    """Return ``swin_t``, ``swin_s``, ``swin_b`` or ``swin_l``.

    Args:
        name: A key of ``SHAPES``.
        weights: ``none``, ``imagenet`` (not for ``swin_l``) or the path of a safetensors file.
        drop_path: See :class:`Swin`.
    """
    swin = Swin(SHAPES[name], drop_path=drop_path)
    has_weights = name in WITH_WEIGHTS
    load_weights(swin, weights, source=(lambda: _trunk_state(name)) if has_weights else None)
    return swin


def _trunk_state(name: str) -> State:
    state = torchvision_state(name)
    return {key: tensor for key, tensor in state.items() if key.startswith("features.")}


class OutputNorms(Backbone):
    """A backbone with a LayerNorm over the channels of each map it gives.

    Args:
        backbone: Any backbone.
        eps: Of the norms.
    """

    def __init__(self, backbone: Backbone, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.body = backbone
        self.channels = dict(backbone.channels)
        self.norms = nn.ModuleDict(
            {name: nn.LayerNorm(width, eps=eps) for name, width in self.channels.items()}
        )

    def forward(self, images: Tensor) -> Features:
        """Return the normalised features by stride."""
        maps = self.body(images)
        return {
            name: norm(maps[name].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for name, norm in self.norms.items()
        }

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the layers of the backbone; the norms learn like the head."""
        return self.body.layers()
