"""Feature pyramids for the box-based and panoptic models.

Lin, Dollar, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object
Detection", CVPR 2017. Maps are named as torchvision names them: ``"0"`` is the finest.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from segbench.core.errors import ConfigError
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models.backbones import create_backbone

RESNET_STAGES = ("layer4", "layer3", "layer2", "layer1", "conv1")


class Pyramid(nn.Module):
    """Features of a ``body`` brought to ``out_channels`` by a top-down path."""

    body: nn.Module
    out_channels: int

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps of images [N, 3, H, W] by name, fine to coarse."""
        raise NotImplementedError

    def body_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters below the pyramid, which may come pretrained."""
        yield from self.body.parameters()


class BackbonePyramid(Pyramid):
    """An image classifier and torchvision's pyramid, by default with fixed BatchNorm.

    With a ResNet the parameters carry the names of torchvision's detectors.

    Args:
        name: A backbone of ``segbench.models.backbones``.
        strides: Strides of the maps the pyramid is built on.
        extra: Block that adds coarser maps.
        out_channels: Channels of every map.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        trainable_layers: ResNet stages that learn, counted from the top, 0 to 5 (5: all).
        learned_norm: BatchNorm that learns, in the classifier and after each convolution of the
            pyramid too (torchvision's second versions), in place of the fixed one.
    """

    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, ...] = (4, 8, 16, 32),
        extra: ExtraFPNBlock | None = None,
        out_channels: int = 256,
        backbone_weights: str = "none",
        trainable_layers: int = 5,
        learned_norm: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.names = [f"stride{stride}" for stride in strides]
        backbone = create_backbone(name, weights=backbone_weights, frozen_norm=not learned_norm)
        self.body = backbone
        _freeze_below(backbone, trainable_layers)
        widths = [backbone.channels[name] for name in self.names]
        norm = nn.BatchNorm2d if learned_norm else None
        self.fpn = FeaturePyramidNetwork(widths, out_channels, extra, norm)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps of images [N, 3, H, W]; those of ``extra`` come last."""
        features = self.body(images)
        maps: dict[str, Tensor] = self.fpn({str(i): features[n] for i, n in enumerate(self.names)})
        return maps


class TrunkPyramid(Pyramid):
    """Residual trunk and feature pyramid, with the maps a head reads and no others.

    Map ``"0"`` has stride 4, ``"1"`` stride 8, ``"2"`` stride 16, as torchvision numbers them.

    Args:
        trunk_width: Channels of the trunk at stride 4.
        out_channels: Channels of every map.
        outputs: Maps to return, fine to coarse.
    """

    def __init__(self, trunk_width: int, out_channels: int, *, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.outputs = outputs
        self.body = ResidualTrunk(trunk_width)
        self.laterals = nn.ModuleDict(
            {
                level: nn.Conv2d(self.body.channels[f"stride{4 << int(level)}"], out_channels, 1)
                for level in ("2", "1", "0")
                if level >= outputs[0]
            }
        )
        self.smooth = nn.ModuleDict(
            {level: nn.Conv2d(out_channels, out_channels, 3, padding=1) for level in outputs}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps of images [N, 3, H, W], each [N, C, H / stride, W / stride]."""
        features = self.body(images)
        maps: dict[str, Tensor] = {}
        above: Tensor | None = None
        for level, lateral in self.laterals.items():
            merged = lateral(features[f"stride{4 << int(level)}"])
            if above is not None:
                merged = merged + functional.interpolate(above, merged.shape[-2:])
            above = maps[level] = merged
        return {level: self.smooth[level](maps[level]) for level in self.outputs}


def _freeze_below(backbone: nn.Module, trainable_layers: int) -> None:
    """Fix every ResNet stage below the ``trainable_layers`` highest."""
    if not 0 <= trainable_layers <= len(RESNET_STAGES):
        raise ConfigError(f"trainable_layers must be 0 to 5, found {trainable_layers}")
    for stage in RESNET_STAGES[trainable_layers:]:
        backbone.get_submodule(stage).requires_grad_(False)
        if stage == "conv1":
            backbone.get_submodule("bn1").requires_grad_(False)
