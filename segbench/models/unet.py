"""U-Net.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015 (arXiv 1505.04597). ``unet_original`` is the paper's network: valid
convolutions without normalisation, so that 572 pixels give 388, and mirrored borders. ``unet``
is the form most people run: padded convolutions with batch normalisation.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.errors import ConfigError
from segbench.layers.conv import ConvNormAct, resize
from segbench.layers.mirror import mirror_borders
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models.bases.semantic import SemanticModel
from segbench.models.registry import register_model

PAPER = "U-Net: Convolutional Networks for Biomedical Image Segmentation"
YEAR = 2015
TASK = "semantic"

WIDTHS = (64, 128, 256, 512, 1024)
TILE_MARGIN = 92
"""Pixels the valid network loses on each side: (572 - 388) / 2."""
TILE_STEP = 16
"""Valid input sizes are 12 + 16 k, so that each pooling meets an even size."""
OVERLAP = 4
"""Pixels that neighbouring tiles share, so that tiles start at multiples of 16."""
DROPOUT = 0.5


class UNet(SemanticModel):
    """Contracting and expanding path joined by copies of the features.

    Args:
        num_classes: Output channels.
        in_channels: Channels of the images.
        padded: Padded convolutions with BatchNorm, or the paper's valid ones.
        tile: Side of the tiles in which a valid network predicts, 4 above a multiple of 16 (the
            paper's is 388); None predicts at once. The logits are the same.

    Raises:
        ConfigError: Tiles of that side would not meet the grid of the poolings.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        padded: bool = True,
        tile: int | None = None,
    ) -> None:
        super().__init__(num_classes)
        if tile is not None and (tile % TILE_STEP != OVERLAP or tile == OVERLAP):
            raise ConfigError(
                f"tile: expected 4 above a multiple of 16, found {tile}", fix="as 388 or 196"
            )
        self.padded, self.tile = padded, tile
        self.down = nn.ModuleList()
        for below, width in zip((in_channels, *WIDTHS[:-1]), WIDTHS, strict=True):
            self.down.append(_two_convolutions(below, width, padded=padded))
        self.dropout: nn.Module = nn.Identity() if padded else nn.Dropout(DROPOUT)
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for width in reversed(WIDTHS[:-1]):
            self.up.append(nn.ConvTranspose2d(2 * width, width, 2, stride=2))
            self.merge.append(_two_convolutions(2 * width, width, padded=padded))
        self.classifier = nn.Conv2d(WIDTHS[0], num_classes, 1)
        if not padded:
            self.apply(_he_initialisation)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        if self.padded:
            return {"logits": self.score(images)}
        height, width = images.shape[-2:]
        mirrored = _mirror(images)
        tiled = self.tile is not None and not self.training
        scores = self._score_tiles(mirrored, self.tile or 0) if tiled else self.score(mirrored)
        return {"logits": scores[..., :height, :width]}

    def _score_tiles(self, images: Tensor, tile: int) -> Tensor:
        """Return ``score(images)``, tile by tile: each reads 92 pixels more on every side."""
        height, width = (side - 2 * TILE_MARGIN for side in images.shape[-2:])
        logits = images.new_empty(len(images), self.num_classes, height, width)
        for top in range(0, height - OVERLAP, tile - OVERLAP):
            for left in range(0, width - OVERLAP, tile - OVERLAP):
                bottom, right = min(top + tile, height), min(left + tile, width)
                window = images[..., top : bottom + 2 * TILE_MARGIN, left : right + 2 * TILE_MARGIN]
                logits[..., top:bottom, left:right] = self.score(window)
        return logits

    def score(self, images: Tensor) -> Tensor:
        """Return the logits of the bare network: 92 pixels fewer a side when not padded."""
        features, skips = images, []
        for index, block in enumerate(self.down):
            features = block(features if index == 0 else functional.max_pool2d(features, 2))
            skips.append(features)
        features = self.dropout(features)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            features = up(features)
            features = merge(torch.cat(_aligned(skip, features, padded=self.padded), dim=1))
        logits: Tensor = self.classifier(features)
        return logits


class TinyUNet(SemanticModel):
    """A U-Net on a small residual trunk of strides 2 to 16, with the scores of all levels summed.

    Each level of the expanding path gives scores that are upsampled and added to those of the
    next, as in Kayalibay, Jensen and van der Smagt, arXiv 1701.03056: with scores of the
    finest level alone it did not learn the digits in a short training.
    """

    def __init__(self, num_classes: int, *, width: int = 40) -> None:
        super().__init__(num_classes)
        self.trunk = ResidualTrunk(width)
        channels = list(self.trunk.channels.values())[::-1]
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        self.scores = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels)
        for coarse, fine in pairwise(channels):
            self.up.append(nn.ConvTranspose2d(coarse, fine, 2, stride=2))
            self.merge.append(ConvNormAct(2 * fine, fine))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        *skips, features = self.trunk(images).values()
        logits = self.scores[0](features)
        levels = zip(self.up, self.merge, self.scores[1:], reversed(skips), strict=True)
        for up, merge, score, skip in levels:
            features = merge(torch.cat(_aligned(skip, up(features), padded=True), dim=1))
            logits = score(features) + resize(logits, (skip.shape[-2], skip.shape[-1]))
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}


def _two_convolutions(in_channels: int, out_channels: int, *, padded: bool) -> nn.Sequential:
    if padded:
        return nn.Sequential(
            ConvNormAct(in_channels, out_channels), ConvNormAct(out_channels, out_channels)
        )
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3),
        nn.ReLU(inplace=True),
    )


def _aligned(skip: Tensor, features: Tensor, *, padded: bool) -> tuple[Tensor, Tensor]:
    """Bring both to one size: pad ``features`` with zeros, or crop the centre of ``skip``."""
    rows = skip.shape[-2] - features.shape[-2]
    columns = skip.shape[-1] - features.shape[-1]
    margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    if padded:
        return skip, functional.pad(features, margins)
    return functional.pad(skip, tuple(-margin for margin in margins)), features


def _mirror(images: Tensor) -> Tensor:
    """Reflect the borders so that the valid network's output covers the images."""
    height, width = (
        -(-(side + 2 * TILE_MARGIN - 12) // TILE_STEP) * TILE_STEP + 12
        for side in images.shape[-2:]
    )
    return mirror_borders(images, TILE_MARGIN, (height, width))


def _he_initialisation(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


@register_model("unet", display_name="U-Net (padded, BN)")
def unet(num_classes: int, *, in_channels: int = 3) -> UNet:
    """Return the padded U-Net with BatchNorm: 31,038,933 parameters at 21 classes."""
    return UNet(num_classes, in_channels=in_channels)


@register_model("unet_original", display_name="U-Net (original)")
def unet_original(num_classes: int, *, in_channels: int = 3, tile: int | None = None) -> UNet:
    """Return the paper's U-Net: 31,030,658 parameters for 1 channel and 2 classes.

    ``tile``, as 388, bounds the memory of a prediction and changes no logit.
    """
    return UNet(num_classes, in_channels=in_channels, padded=False, tile=tile)


@register_model("unet_tiny", display_name="U-Net (tiny)", backbone="residual_trunk", size="tiny")
def unet_tiny(num_classes: int, *, width: int = 40) -> TinyUNet:
    """Return a small U-Net for a CPU."""
    return TinyUNet(num_classes, width=width)
