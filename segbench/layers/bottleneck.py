"""The bottleneck of a residual network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.conv import ConvNormAct, conv_norm


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around an identity; a stride lies on the first, as in Caffe's ResNets.

    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(
        self,
        in_channels: int,
        inner: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvNormAct(in_channels, inner, kernel=1, stride=stride),
            ConvNormAct(inner, inner, dilation=dilation),
            conv_norm(inner, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = conv_norm(in_channels, out_channels, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, out_channels, H / stride, W / stride]."""
        return functional.relu(self.residual(features) + self.shortcut(features))
