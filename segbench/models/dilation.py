"""Dilation8 and Dilation10.

Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016 (arXiv
1511.07122), as in the authors' Caffe definitions: a VGG-16 without its last two poolings and
without padding, whose input is mirrored instead, and a context module of dilated convolutions
that starts as the identity. The large module is that of the VOC network; the basic one that of
CamVid, KITTI and, with two more layers and a fixed upsampling, Cityscapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segbench.layers.bilinear import bilinear_upsampling
from segbench.layers.conv import resize
from segbench.layers.mirror import mirror_borders
from segbench.layers.vgg import DILATED_VGG16_STAGES
from segbench.models.bases.semantic import SemanticModel
from segbench.models.fcn import TinyFCN
from segbench.models.parts.tiny_trunk import lite0_trunk
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import register_model

PAPER = "Multi-Scale Context Aggregation by Dilated Convolutions"
YEAR = 2016
TASK = "semantic"

CONTEXT8 = (1, 1, 2, 4, 8, 16, 1)
CONTEXT10 = (1, 1, 2, 4, 8, 16, 32, 64, 1)
"""Dilations of the context modules' 3x3 convolutions."""
LARGE = (2, 2, 4, 8, 16, 32, 32)
"""Widths of the large module, as multiples of the classes."""
POOLINGS = 3
"""Stages that pooling follows."""
MARGIN = 186
"""Pixels the front end loses on each side: 8 k + 372 pixels give k scores."""


class FrontEnd(nn.Module):
    """VGG-16 at stride 8 without padding, fc6 a 7x7 of dilation 4, scores of each class.

    Args:
        num_classes: Output channels.
        fc_channels: Channels of fc6 and fc7.
        weights: ``none``, ``imagenet`` or a safetensors file, see ``fill_vgg16``.
    """

    def __init__(self, num_classes: int, *, fc_channels: int = 4096, weights: str = "none") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index, (width, depth, dilation) in enumerate(DILATED_VGG16_STAGES):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, dilation=dilation), nn.ReLU()]
                channels = width
            if index < POOLINGS:
                layers.append(nn.MaxPool2d(2))
        encoder = nn.Sequential(*layers)
        fc6 = nn.Conv2d(512, fc_channels, 7, dilation=4)
        fc7 = nn.Conv2d(fc_channels, fc_channels, 1)
        layers += [fc6, nn.ReLU(), nn.Dropout(), fc7, nn.ReLU(), nn.Dropout()]
        fill_vgg16(weights, encoder, fc6, fc7)
        self.network = nn.Sequential(*layers, nn.Conv2d(fc_channels, num_classes, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return scores at stride 8 of images whose borders were mirrored by ``MARGIN``."""
        scores: Tensor = self.network(images)
        return scores


class ContextModule(nn.Sequential):
    """3x3 convolutions of growing dilation and a 1x1, initialised to pass scores through.

    Args:
        num_classes: Channels in and out.
        dilations: Of the 3x3 convolutions.
        widths: Their channels as multiples of ``num_classes``; ones if None.
    """

    def __init__(
        self, num_classes: int, *, dilations: Sequence[int], widths: Sequence[int] | None = None
    ) -> None:
        layers: list[nn.Module] = []
        channels = num_classes
        for dilation, factor in zip(dilations, widths or [1] * len(dilations), strict=True):
            width = factor * num_classes
            conv = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)
            layers += [_identity(conv), nn.ReLU()]
            channels = width
        super().__init__(*layers, _identity(nn.Conv2d(channels, num_classes, 1)))


class Dilation(SemanticModel):
    """Front end, context module and, for Dilation10, a fixed bilinear upsampling.

    Args:
        num_classes: Output channels.
        dilations: Of the context module; empty leaves it out, as while the front end is trained.
        large: The wide context module of the VOC network.
        upsampling: A grouped transposed convolution of kernel 16 and stride 8 at the end.
        backbone_weights: For the front end, see ``fill_vgg16``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        dilations: Sequence[int],
        large: bool = False,
        upsampling: bool = False,
        backbone_weights: str = "none",
    ) -> None:
        super().__init__(num_classes)
        self.front_end = FrontEnd(num_classes, weights=backbone_weights)
        widths = LARGE if large else None
        self.context: nn.Module = nn.Identity()
        if dilations:
            self.context = ContextModule(num_classes, dilations=dilations, widths=widths)
        self.upsampling = (
            bilinear_upsampling(num_classes, factor=8, grouped=True) if upsampling else None
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        height, width = images.shape[-2:]
        scores = self.context(self.front_end(_mirrored(images)))
        if self.upsampling is None:
            return {
                "logits": resize(scores, (scores.shape[-2] * 8, scores.shape[-1] * 8))[
                    ..., :height, :width
                ]
            }
        return {"logits": self.upsampling(scores)[..., 4 : 4 + height, 4 : 4 + width]}


class TinyDilation(TinyFCN):
    """A context module on the summed scores of a small trunk, or of the one that is given."""

    def __init__(self, num_classes: int, **trunk: Any) -> None:
        super().__init__(num_classes, **trunk)
        self.context = ContextModule(num_classes, dilations=(1, 1, 2, 4, 1), widths=(2,) * 5)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        logits = self.summed_scores(images)
        logits = logits + self.context(logits)
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}


def _mirrored(images: Tensor) -> Tensor:
    """Reflect the borders so that the scores cover the images: ceil(side / 8) a side."""
    height, width = (-(-side // 8) * 8 + 2 * MARGIN for side in images.shape[-2:])
    return mirror_borders(images, MARGIN, (height, width))


def _identity(conv: nn.Conv2d) -> nn.Conv2d:
    """Set a convolution to copy its input, repeated or averaged where the widths differ."""
    with torch.no_grad():
        conv.weight.normal_(std=1e-3)
        assert conv.bias is not None
        conv.bias.zero_()
        centre = conv.kernel_size[0] // 2
        wide = max(conv.in_channels, conv.out_channels)
        classes = min(conv.in_channels, conv.out_channels)
        for channel in range(wide):
            out = channel % conv.out_channels
            share = classes / wide if conv.in_channels > conv.out_channels else 1.0
            conv.weight[out, channel % conv.in_channels, centre, centre] += share
    return conv


@register_model("dilation8", display_name="Dilation8", backbone="vgg16")
def dilation8(
    num_classes: int,
    *,
    large: bool | None = None,
    context: bool = True,
    backbone_weights: str = "none",
) -> Dilation:
    """Return Dilation8: 141,149,720 parameters at 21 classes, 134,313,443 at 11.

    The context module is the large one at 21 classes (VOC), the basic one otherwise, as
    released; ``large`` says otherwise. Without ``context`` it is the front end alone.
    """
    wide = num_classes == 21 if large is None else large
    dilations = CONTEXT8 if context else ()
    return Dilation(num_classes, dilations=dilations, large=wide, backbone_weights=backbone_weights)


@register_model("dilation10", display_name="Dilation10", backbone="vgg16")
def dilation10(
    num_classes: int, *, context: bool = True, backbone_weights: str = "none"
) -> Dilation:
    """Return Dilation10: 134,373,043 parameters at 19 classes, or its front end alone."""
    dilations = CONTEXT10 if context else ()
    return Dilation(
        num_classes, dilations=dilations, upsampling=True, backbone_weights=backbone_weights
    )


@register_model(
    "dilation_tiny", display_name="Dilation (tiny)", backbone="residual_trunk", size="tiny"
)
def dilation_tiny(num_classes: int, *, width: int = 48) -> TinyDilation:
    """Return a small network with a context module, for a CPU."""
    return TinyDilation(num_classes, width=width)


@register_model(
    "dilation_efficientnet_lite0",
    display_name="Dilation (EfficientNet-Lite0)",
    backbone="efficientnet_lite0",
)
def dilation_efficientnet_lite0(
    num_classes: int, *, backbone_weights: str = "none"
) -> TinyDilation:
    """Return a context module on the summed scores of EfficientNet-Lite0's strides 32 to 2."""
    return TinyDilation(num_classes, trunk=lite0_trunk(backbone_weights, output_stride=32))
