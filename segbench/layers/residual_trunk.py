"""A small residual network for the ``tiny`` variants, trained from random weights on a CPU.

Basic residual blocks (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016)
behind a stem of stride 2; no max-pooling, so every stride from 2 to 16 has features.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity, or a 1x1 projection where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, stride=stride)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return ``relu(F(features) + shortcut(features))``."""
        residual = self.norm2(self.conv2(self.conv1(features)))
        return functional.relu(residual + self.shortcut(features))


class ResidualTrunk(nn.Module):
    """Features of an image at strides 2, 4, 8 and 16.

    Widths are ``width // 2``, ``width``, ``3 * width // 2`` and ``2 * width``; a feature map
    of stride s has ``ceil(H / s)`` rows. ``channels`` names the width of each map.

    Args:
        width: Channels at stride 4; even and positive.
        blocks: Residual blocks at strides 4, 8 and 16.
        in_channels: Channels of the images.
    """

    def __init__(
        self, width: int = 48, *, blocks: tuple[int, int, int] = (2, 2, 2), in_channels: int = 3
    ) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be even and positive, found {width}")
        widths = (width // 2, width, 3 * width // 2, 2 * width)
        self.channels: dict[str, int] = {
            f"stride{2 ** (i + 1)}": channels for i, channels in enumerate(widths)
        }
        self.stem = ConvNormAct(in_channels, widths[0], stride=2)
        self.stage4 = _stage(widths[0], widths[1], blocks[0])
        self.stage8 = _stage(widths[1], widths[2], blocks[1])
        self.stage16 = _stage(widths[2], widths[3], blocks[2])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``{"stride2": [N, C, H/2, W/2], "stride4": ..., "stride8", "stride16"}``."""
        stride2 = self.stem(images)
        stride4 = self.stage4(stride2)
        stride8 = self.stage8(stride4)
        return {
            "stride2": stride2,
            "stride4": stride4,
            "stride8": stride8,
            "stride16": self.stage16(stride8),
        }


def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride=2)
    return nn.Sequential(
        first, *(ResidualBlock(out_channels, out_channels) for _ in range(blocks - 1))
    )
