"""Image classifiers as feature extractors, with or without trained weights.

Every backbone maps images [N, 3, H, W] to a dict of features by stride, ``{"stride4": ...}``,
and names their widths in ``channels``. Where dilation keeps several stages at one stride, the
deepest is the one returned.

Weights are ``none`` (random), ``imagenet`` or the path of a file with the extractor's own
parameters (``segbench.models.pretrained``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torchvision
from timm.layers import freeze_batch_norm_2d  # type: ignore[attr-defined]
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from segbench.core.errors import ConfigError, did_you_mean
from segbench.models.pretrained import (
    State,
    downloaded,
    lite0_state,
    load_weights,
    timm_state,
    torchvision_state,
)

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DEEP_STEMS = {"_v1c": (32, 32, 64), "_v1s": (64, 64, 128)}
"""Widths of three 3x3 convolutions in place of the 7x7, by the ending of a ResNet's name:
mmsegmentation's form and that of the authors of PSPNet."""
DEEP_STEM_WEIGHTS = {"_v1c": "c.gluon_in1k", "_v1s": "s.gluon_in1k"}
"""What timm appends to the plain name for ImageNet weights of that stem."""
Features = dict[str, Tensor]


@dataclass(frozen=True)
class ResNetForm:
    """Where published ResNets of equal parameters differ; the defaults are torchvision's.

    Args:
        first_dilation: Dilation of the first 3x3 convolution of a stage that is dilated in place
            of its stride: ``previous`` is that of the stage before (torchvision, mmsegmentation's
            ``contract_dilation``), ``own`` that of the stage (semseg, DeepLab's Caffe networks).
        stride_place: ``3x3`` (torchvision) or ``1x1``, the first convolution of the block
            (Caffe's networks and He et al.).
        pool_rounding: Rows of the stem's pooling at an odd size: ``down`` or ``up`` (Caffe).
    """

    first_dilation: str = "previous"
    stride_place: str = "3x3"
    pool_rounding: str = "down"

    def __post_init__(self) -> None:
        for name, known in FORM_VALUES.items():
            value = getattr(self, name)
            if value not in known:
                expected = " or ".join(f"'{word}'" for word in known)
                raise ConfigError(f"{name} must be {expected}, found {value!r}")


FORM_VALUES = {
    "first_dilation": ("previous", "own"),
    "stride_place": ("3x3", "1x1"),
    "pool_rounding": ("down", "up"),
}
CAFFE_FORM = ResNetForm(first_dilation="own", stride_place="1x1", pool_rounding="up")
"""Of the ResNets that DeepLab v1 and v2 were published with."""


class Backbone(nn.Module):
    """A feature extractor; ``channels`` gives the width of each map it returns."""

    channels: dict[str, int]

    def forward(self, images: Tensor) -> Features:
        """Return features [N, channels[k], H / stride, W / stride] by ``"stride<s>"``."""
        raise NotImplementedError

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each layer that ``layer_decay`` tells apart, first to last.

        Parameters in none of them learn like the last. Empty: the layers are not known.
        """
        return []


class ResNet(Backbone):
    """torchvision's ResNet without its classifier; parameter names as there.

    A name that ends as in ``DEEP_STEMS`` has three convolutions in its stem.
    """

    def __init__(
        self,
        name: str,
        *,
        output_stride: int,
        frozen_norm: bool,
        form: ResNetForm = ResNetForm(),
    ) -> None:
        super().__init__()
        name, stem = _plain_resnet(name)
        network = torchvision.models.get_model(
            name,
            weights=None,
            replace_stride_with_dilation=[False, output_stride <= 8, output_stride <= 16],
            norm_layer=FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d,
        )
        self.conv1, self.bn1, self.relu = network.conv1, network.bn1, network.relu
        self.maxpool = network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        if stem:
            self._deepen(stem, nn.BatchNorm2d if not frozen_norm else FrozenBatchNorm2d)
        self._shape(form)
        expansion = network.fc.in_features // 512
        widths = (stem[-1] if stem else 64, *(w * expansion for w in (64, 128, 256, 512)))
        self.names = [f"stride{min(s, output_stride)}" for s in (2, 4, 8, 16, 32)]
        self.channels = dict(zip(self.names, widths, strict=True))

    def forward(self, images: Tensor) -> Features:
        """Return features at strides 2, 4 and up to the output stride."""
        return dict(zip(self.names, self.stages(images), strict=True))

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the stem's features and those of all four layers, dilated ones too."""
        maps = [self.relu(self.bn1(self.conv1(images)))]
        maps.append(self.layer1(self.maxpool(maps[0])))
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps

    def _shape(self, form: ResNetForm) -> None:
        """Bring the strides, dilations and the pooling of the blocks to a published form."""
        self.maxpool.ceil_mode = form.pool_rounding == "up"
        for stage in (self.layer2, self.layer3, self.layer4):
            first, last = stage[0], stage[-1]
            if form.stride_place == "1x1":
                first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
            if form.first_dilation == "own":
                first.conv2.dilation = last.conv2.dilation
                first.conv2.padding = last.conv2.padding

    def _deepen(self, widths: tuple[int, int, int], norm: Callable[[int], nn.Module]) -> None:
        """Put three 3x3 convolutions in place of the 7x7; ``bn1`` follows the last."""
        first, second, last = widths
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, padding=1, bias=False),
            norm(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            norm(second),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, last, 3, padding=1, bias=False),
        )
        self.bn1 = norm(last)
        block = self.layer1[0]
        if last != block.conv1.in_channels:
            block.conv1 = _reading(block.conv1, last)
            block.downsample[0] = _reading(block.downsample[0], last)


def create_resnet(
    name: str,
    *,
    weights: str = "none",
    output_stride: int = 32,
    frozen_norm: bool = False,
    form: ResNetForm = ResNetForm(),
) -> ResNet:
    """Return a ResNet, for heads that read its dilated stages too.

    Args:
        name: A ResNet of :func:`create_backbone`.
        weights: As there.
        output_stride: As there.
        frozen_norm: As there.
        form: Strides, dilations and pooling of a published form.

    Raises:
        ConfigError: ``name`` is no ResNet, or a basic block (18, 34) cannot take the form.
    """
    plain = _plain_resnet(name)[0]
    if plain not in RESNETS:
        raise ConfigError(f"expected a ResNet, found the backbone '{name}'")
    if plain in RESNETS[:2] and form.stride_place == "1x1":
        raise ConfigError(f"{name} has no 1x1 convolution that could take the stride")
    backbone = ResNet(name, output_stride=output_stride, frozen_norm=frozen_norm, form=form)
    load_weights(backbone, weights, source=lambda: _resnet_state(name))
    return backbone


def _plain_resnet(name: str) -> tuple[str, tuple[int, int, int] | None]:
    """Return torchvision's name of a ResNet and the widths of its deep stem, if it has one."""
    plain, ending = name[:-4], name[-4:]
    return (plain, DEEP_STEMS[ending]) if ending in DEEP_STEMS else (name, None)


def _reading(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a convolution like ``conv`` that reads ``channels`` channels."""
    stride = conv.stride[0]
    return nn.Conv2d(channels, conv.out_channels, 1, stride=stride, bias=False)


class VGG16(Backbone):
    """torchvision's VGG-16 without its classifier: the last map before each pooling, and pool5."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision.models.vgg16(weights=None, init_weights=False).features
        widths = (64, 128, 256, 512, 512, 512)
        self.channels = {f"stride{2**i}": width for i, width in enumerate(widths)}

    def forward(self, images: Tensor) -> Features:
        """Return features at strides 1, 2, 4, 8, 16 and 32."""
        features, maps = images, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(features)
            features = layer(features)
        return dict(zip(self.channels, [*maps, features], strict=True))


class TimmFeatures(Backbone):
    """Any timm network that has ``features_only``, always NCHW."""

    def __init__(
        self, name: str, *, output_stride: int, frozen_norm: bool, pretrained: bool
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
        network = _create_timm(name, features_only=True, pretrained=pretrained, **options)
        freeze: Callable[[nn.Module], nn.Module] = freeze_batch_norm_2d
        self.network = freeze(network) if frozen_norm else network
        info = network.feature_info
        self.widths: list[int] = info.channels()
        self.names = [f"stride{stride}" for stride in info.reduction()]
        self.channels = dict(zip(self.names, self.widths, strict=True))

    def forward(self, images: Tensor) -> Features:
        """Return the stages timm exposes, by stride."""
        maps = [
            _channels_first(features, width)
            for features, width in zip(self.network(images), self.widths, strict=True)
        ]
        return dict(zip(self.names, maps, strict=True))

    def layers(self) -> list[list[nn.Parameter]]:
        """Return stem and steps down as one layer and the blocks of each stage as another.

        This is ConvNeXt's rule by stages, of networks whose stages timm names ``stages_0`` ...
        """
        found: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            stage = re.match(r"stages_(\d+)\.blocks\.", name)
            found.setdefault(int(stage[1]) + 1 if stage else 0, []).append(parameter)
        return [found[depth] for depth in sorted(found)] if len(found) > 1 else []


def create_backbone(
    name: str, *, weights: str = "none", output_stride: int = 32, frozen_norm: bool = False
) -> Backbone:
    """Return a feature extractor.

    Args:
        name: ``vgg16``, ``resnet18`` .. ``resnet152`` (with ``_v1c`` or ``_v1s`` for a deep
            stem), ``efficientnet_lite0`` or a timm name.
        weights: ``none``, ``imagenet`` or the path of a safetensors file.
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        frozen_norm: Batch normalisation with fixed statistics, scale and shift.

    Raises:
        ConfigError: Unknown name, or a stride the network cannot have.
        MissingDependency: ``imagenet`` weights cannot be had on this machine.
        DataError: A weights file does not fit the network.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride must be 8, 16 or 32, found {output_stride}")
    if _plain_resnet(name)[0] in RESNETS:
        backbone: Backbone = create_resnet(
            name, weights=weights, output_stride=output_stride, frozen_norm=frozen_norm
        )
    elif name == "vgg16":
        backbone = _create_vgg16(weights, output_stride)
    elif name == "efficientnet_lite0":
        backbone = _create_lite0(weights, output_stride, frozen_norm)
    else:
        pretrained = weights == "imagenet"
        backbone = downloaded(
            name,
            lambda: TimmFeatures(
                name, output_stride=output_stride, frozen_norm=frozen_norm, pretrained=pretrained
            ),
        )
        if not pretrained:
            load_weights(backbone, weights)
    return backbone


def _create_vgg16(weights: str, output_stride: int) -> Backbone:
    if output_stride != 32:
        raise ConfigError(f"vgg16 has output_stride 32 only, found {output_stride}")
    backbone = VGG16()
    load_weights(backbone, weights, source=lambda: torchvision_state("vgg16"))
    return backbone


def _create_lite0(weights: str, output_stride: int, frozen_norm: bool) -> Backbone:
    backbone = TimmFeatures(
        "tf_efficientnet_lite0",
        output_stride=output_stride,
        frozen_norm=frozen_norm,
        pretrained=False,
    )
    network = backbone.network
    if weights == "imagenet":
        network.load_state_dict(lite0_state(network.state_dict()))
    else:
        load_weights(backbone, weights)
    return backbone


def _resnet_state(name: str) -> State:
    plain, stem = _plain_resnet(name)
    return timm_state(plain + DEEP_STEM_WEIGHTS[name[-4:]]) if stem else torchvision_state(plain)


def _create_timm(name: str, **options: Any) -> Any:
    if not timm.is_model(name.partition(".")[0]):
        known = [*RESNETS, "vgg16", "efficientnet_lite0", *timm.list_models()]
        raise ConfigError(f"unknown backbone '{name}'.{did_you_mean(name, known)}")
    try:
        return timm.create_model(name, **options)
    except (NotImplementedError, AssertionError, TypeError, AttributeError) as error:
        found = re.sub(r"\s+", " ", str(error)) or type(error).__name__
        raise ConfigError(f"timm's '{name}' cannot be built with {options}: {found}") from None


def _channels_first(features: Tensor, channels: int) -> Tensor:
    if features.shape[1] != channels and features.shape[-1] == channels:
        return features.permute(0, 3, 1, 2)
    return features
