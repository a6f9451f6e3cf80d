"""A small residual network for the ``tiny`` variants, trained from random weights on a CPU.

Basic residual blocks (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016)
behind a stem of stride 2; no max-pooling, so every stride from 2 to 16 has features.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity, or a 1x1 projection where the shape changes."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, stride=stride, dilation=dilation)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
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
        output_stride: 16, or 8 to dilate the last stage by 2 in place of its stride; its
            features are then those of ``stride8``.
    """

    def __init__(
        self,
        width: int = 48,
        *,
        blocks: tuple[int, int, int] = (2, 2, 2),
        in_channels: int = 3,
        output_stride: Literal[8, 16] = 16,
    ) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be even and positive, found {width}")
        widths = (width // 2, width, 3 * width // 2, 2 * width)
        names = ("stride2", "stride4", "stride8", f"stride{output_stride}")
        self.channels: dict[str, int] = dict(zip(names, widths, strict=True))
        self.stem = ConvNormAct(in_channels, widths[0], stride=2)
        self.stage4 = _stage(widths[0], widths[1], blocks[0])
        self.stage8 = _stage(widths[1], widths[2], blocks[1])
        dilation = 16 // output_stride
        self.last = names[-1]
        self.stage16 = _stage(
            widths[2], widths[3], blocks[2], stride=2 // dilation, dilation=dilation
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``{"stride2": [N, C, H/2, W/2], "stride4": ..., "stride8", "stride16"}``."""
        stride2 = self.stem(images)
        stride4 = self.stage4(stride2)
        stride8 = self.stage8(stride4)
        coarse = self.stage16(stride8)
        return {"stride2": stride2, "stride4": stride4, "stride8": stride8, self.last: coarse}


def _stage(
    in_channels: int, out_channels: int, blocks: int, *, stride: int = 2, dilation: int = 1
) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride=stride, dilation=dilation)
    others = (
        ResidualBlock(out_channels, out_channels, dilation=dilation) for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *others)
