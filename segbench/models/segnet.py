"""SegNet and SegNet-Basic.

Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
for Image Segmentation", TPAMI 2017 (arXiv 1511.00561). The decoder has no transposed
convolution and no copied features: it puts pooled values back at the places of their maxima
and fills the gaps with ordinary convolutions. Counts follow the authors' Caffe definitions:
convolutions with bias, BatchNorm after all but the last.
"""

from __future__ import annotations

from torch import Tensor, nn

from segbench.layers.conv import resize
from segbench.layers.unpool import max_unpool, pool_through
from segbench.layers.vgg import convolutions, mirrored_widths, small_stages, vgg16_stages
from segbench.models.bases.semantic import SemanticModel
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import register_model

PAPER = "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation"
YEAR = 2015
TASK = "semantic"

DECODER = (
    (512, 512, 512, 512),
    (512, 512, 512, 256),
    (256, 256, 256, 128),
    (128, 128, 64),
    (64, 64),
)
"""Widths through each decoder stage, mirrored from VGG-16; the classifier follows the last."""
BASIC_WIDTH, BASIC_KERNEL = 64, 7


class EncoderDecoder(nn.Module):
    """Stages with pooling between them, and stages with unpooling at the remembered places."""

    def __init__(self, encoder: nn.ModuleList, decoder: nn.ModuleList) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of the last decoder stage at the size of the images."""
        features, memory = pool_through(self.encoder, images)
        for stage, (places, size) in zip(self.decoder, reversed(memory), strict=True):
            features = stage(max_unpool(features, places, size))
        return features


class SegNet(SemanticModel):
    """13 convolutions of VGG-16 with BatchNorm, and their mirror image.

    Args:
        num_classes: Output channels.
        backbone_weights: For the encoder, see ``fill_vgg16``.
    """

    def __init__(self, num_classes: int, *, backbone_weights: str = "none") -> None:
        super().__init__(num_classes)
        decoder = nn.ModuleList(convolutions(widths, norm=True) for widths in DECODER)
        self.network = EncoderDecoder(vgg16_stages(norm=True), decoder)
        self.classifier = nn.Conv2d(64, num_classes, 3, padding=1)
        fill_vgg16(backbone_weights, self.network.encoder)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W]; images of at least 32x32."""
        return {"logits": self.classifier(self.network(images))}


class SegNetBasic(SemanticModel):
    """Four stages of one 7x7 convolution; decoders without ReLU; a 1x1 classifier.

    Args:
        num_classes: Output channels.
        width: Channels of every convolution.
        kernel: Side of every convolution.
    """

    def __init__(
        self, num_classes: int, *, width: int = BASIC_WIDTH, kernel: int = BASIC_KERNEL
    ) -> None:
        super().__init__(num_classes)
        widths = (3, width, width, width)
        self.normalise = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        encoder = nn.ModuleList(
            convolutions((below, width), kernel=kernel, norm=True) for below in widths
        )
        decoder = nn.ModuleList(_linear(width, kernel) for _ in widths)
        self.network = EncoderDecoder(encoder, decoder)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W]; images of at least 16x16."""
        return {"logits": self.classifier(self.network(self.normalise(images)))}


class TinySegNet(SemanticModel):
    """The encoder-decoder with two 3x3 convolutions in each of three narrow stages.

    Scores of every decoder stage are upsampled and summed: with those of the last alone small
    digits were not learned in a short training.
    """

    def __init__(self, num_classes: int, *, width: int = 32) -> None:
        super().__init__(num_classes)
        widths = (width, 2 * width, 4 * width)
        self.encoder = small_stages(widths)
        ups = mirrored_widths(widths)
        self.decoder = nn.ModuleList(convolutions(up, norm=True) for up in ups)
        self.scores = nn.ModuleList(nn.Conv2d(up[-1], num_classes, 3, padding=1) for up in ups)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W]; images of at least 8x8."""
        features, memory = pool_through(self.encoder, images)
        logits = None
        steps = zip(self.decoder, self.scores, reversed(memory), strict=True)
        for stage, score, (places, size) in steps:
            features = stage(max_unpool(features, places, size))
            scores = score(features)
            logits = scores if logits is None else scores + resize(logits, size)
        assert logits is not None
        return {"logits": logits}


def _linear(width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(width, width, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


@register_model("segnet", display_name="SegNet", backbone="vgg16_bn")
def segnet(num_classes: int, *, backbone_weights: str = "none") -> SegNet:
    """Return SegNet: 29,449,355 parameters at 11 classes, 29,455,125 at 21."""
    return SegNet(num_classes, backbone_weights=backbone_weights)


@register_model("segnet_basic", display_name="SegNet-Basic")
def segnet_basic(num_classes: int) -> SegNetBasic:
    """Return SegNet-Basic: 1,416,587 parameters at 11 classes."""
    return SegNetBasic(num_classes)


@register_model("segnet_tiny", display_name="SegNet (tiny)", size="tiny")
def segnet_tiny(num_classes: int, *, width: int = 32) -> TinySegNet:
    """Return a small SegNet for a CPU."""
    return TinySegNet(num_classes, width=width)
