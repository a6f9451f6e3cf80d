"""DeconvNet.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015 (arXiv
1505.04366). VGG-16 down to one vector, and its mirror image back: unpooling at the places of
the maxima, then *transposed* convolutions, BatchNorm after every layer. Built for windows of
224x224, whose fc6 is 1x1; larger images have a map there, smaller ones are padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.unpool import Memory, max_unpool, pool_through
from segbench.layers.vgg import mirrored_widths, small_stages, vgg16_stages
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import register_model

PAPER = "Learning Deconvolution Network for Semantic Segmentation"
YEAR = 2015
TASK = "semantic"

DECODER = (
    (512, 512, 512, 512),
    (512, 512, 512, 256),
    (256, 256, 256, 128),
    (128, 128, 64),
    (64, 64, 64),
)
"""Widths through each stage of transposed convolutions."""
FC_CHANNELS = 4096


class UnpoolingDecoder(nn.Module):
    """Unpooling at remembered places, then transposed convolutions, stage by stage.

    Args:
        stages: Widths through each stage.
    """

    def __init__(self, stages: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_transposed(widths) for widths in stages)

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return features at the size before the first pooling.

        ``memory`` holds the places of the maxima and the size of the map of each pooling.
        """
        for stage, (places, size) in zip(self.stages, reversed(memory), strict=True):
            features = stage(max_unpool(features, places, size))
        return features


class DeconvNet(SemanticModel):
    """Encoder, fully connected layers as convolutions, decoder.

    Args:
        num_classes: Output channels.
        encoder: Stages of convolutions; pooling follows each.
        decoder: Widths through the stages of transposed convolutions.
        fc_channels: Channels of fc6 and fc7.
        window: Side of fc6's kernel and of its transposed copy.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: nn.ModuleList,
        decoder: Sequence[Sequence[int]],
        fc_channels: int,
        window: int,
    ) -> None:
        super().__init__(num_classes)
        deep = decoder[0][0]
        self.encoder = encoder
        self.smallest = window * 2 ** len(encoder)
        self.fc6 = norm_relu(nn.Conv2d(deep, fc_channels, window))
        self.fc7 = norm_relu(nn.Conv2d(fc_channels, fc_channels, 1))
        self.fc6_deconv = norm_relu(nn.ConvTranspose2d(fc_channels, deep, window))
        self.decoder = UnpoolingDecoder(decoder)
        self.classifier = nn.Conv2d(decoder[-1][-1], num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        height, width = images.shape[-2:]
        margins = (0, max(0, self.smallest - width), 0, max(0, self.smallest - height))
        features, memory = pool_through(self.encoder, functional.pad(images, margins))
        features = self.decoder(self.fc6_deconv(self.fc7(self.fc6(features))), memory)
        return {"logits": self.classifier(features)[..., :height, :width]}


def norm_relu(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Return the layer with BatchNorm and ReLU behind it."""
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace=True))


def _transposed(widths: Sequence[int]) -> nn.Sequential:
    steps = pairwise(widths)
    return nn.Sequential(*(norm_relu(nn.ConvTranspose2d(a, b, 3, padding=1)) for a, b in steps))


@register_model("deconvnet", display_name="DeconvNet", backbone="vgg16_bn")
def deconvnet(num_classes: int, *, backbone_weights: str = "none") -> DeconvNet:
    """Return DeconvNet: 251,805,653 parameters at 21 classes; weights as in ``fill_vgg16``."""
    network = DeconvNet(
        num_classes,
        encoder=vgg16_stages(norm=True),
        decoder=DECODER,
        fc_channels=FC_CHANNELS,
        window=7,
    )
    fill_vgg16(backbone_weights, network.encoder, network.fc6[0], network.fc7[0])
    return network


@register_model("deconvnet_tiny", display_name="DeconvNet (tiny)", size="tiny")
def deconvnet_tiny(num_classes: int, *, width: int = 32) -> DeconvNet:
    """Return a small DeconvNet for a CPU: three stages, a 3x3 window of fully connected layers."""
    widths = (width, 2 * width, 4 * width)
    encoder, decoder = small_stages(widths), mirrored_widths(widths)
    return DeconvNet(num_classes, encoder=encoder, decoder=decoder, fc_channels=8 * width, window=3)
