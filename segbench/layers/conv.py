"""Convolution blocks that every family repeats."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU; keeps the size up to the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride,
                padding=dilation * (kernel // 2),
                dilation=dilation,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def conv_norm(
    in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return the layers of ``ConvNormAct`` without the ReLU."""
    layers = ConvNormAct(in_channels, out_channels, kernel=kernel, stride=stride, dilation=dilation)
    return nn.Sequential(layers[0], layers[1])


class SeparableConvNormAct(nn.Sequential):
    """3x3 depthwise and 1x1 pointwise convolution, then one BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int = 1) -> None:
        depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            3,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        )
        super().__init__(
            depthwise,
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm of 32 groups, of 8 where there are fewer than 64 channels."""
    return nn.GroupNorm(32 if channels >= 64 else 8, channels)


def resize(features: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Resize [N, C, H, W] bilinearly to ``size`` (height, width).

    Args:
        features: Maps [N, C, H, W].
        size: Rows and columns.
        align_corners: Keep the centres of the corner pixels where they are, as Caffe's Interp
            layer does, in place of the borders of the pixel areas.
    """
    if features.shape[-2:] == size:
        return features
    return functional.interpolate(features, size=size, mode="bilinear", align_corners=align_corners)
