"""torchvision's own segmentation networks, unchanged, as references beside ours.

Long, Shelhamer and Darrell, CVPR 2015 (FCN, here dilated, on ResNets); Chen et al., arXiv
1706.05587 (DeepLab v3); Howard et al., "Searching for MobileNetV3", ICCV 2019 (LR-ASPP). Counts
at 21 classes and GMACs at 520x520 are those torchvision publishes:

    FCN, ResNet-50              35,322,218   152.717
    FCN, ResNet-101             54,314,346   232.738
    DeepLab v3, ResNet-50       42,004,074   178.722
    DeepLab v3, MobileNetV3-L   11,029,328    10.452
    LR-ASPP, MobileNetV3-L       3,221,538     2.086
"""

from __future__ import annotations

from typing import Any

import torchvision
from torch import Tensor, nn

from segbench.models.bases.semantic import SemanticModel
from segbench.models.pretrained import classifier_state
from segbench.models.registry import register_model

PAPER = "Fully Convolutional Networks for Semantic Segmentation"
YEAR = 2015
TASK = "semantic"
DEEPLAB_V3 = "Rethinking Atrous Convolution for Semantic Image Segmentation"


class TorchvisionReference(SemanticModel):
    """One of ``torchvision.models.segmentation`` under segbench's contract.

    The auxiliary loss has torchvision's weight 0.5, and its head runs outside of training too,
    as the published MACs count it.

    Args:
        name: torchvision's name of the network.
        num_classes: Output channels.
        classifier: torchvision's name of the backbone.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file of the whole classifier.
        aux: With the auxiliary head; LR-ASPP has none.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        classifier: str,
        backbone_weights: str = "none",
        aux: bool = True,
    ) -> None:
        super().__init__(num_classes, aux_weight=0.5)
        self.network: nn.Module = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux
        )
        state = classifier_state(classifier, weights=backbone_weights)
        if state is not None:
            plain = {key.removeprefix("features."): tensor for key, tensor in state.items()}
            own = self.backbone.state_dict()
            self.backbone.load_state_dict({key: plain.get(key, own[key]) for key in own})

    @property
    def backbone(self) -> nn.Module:
        """The feature extractor."""
        backbone: nn.Module = self.network.backbone  # type: ignore[assignment]
        return backbone

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return logits [N, C, H, W] at the size of the images, and ``aux`` where there is one."""
        found = self.network(images)
        outputs: dict[str, Any] = {"logits": found["out"]}
        if "aux" in found:
            outputs["aux"] = [found["aux"]]
        return outputs


@register_model(
    "torchvision_fcn_resnet50", display_name="torchvision FCN (ResNet-50)", backbone="resnet50"
)
def torchvision_fcn_resnet50(num_classes: int, **options: Any) -> TorchvisionReference:
    """Return torchvision's ``fcn_resnet50``: 35,322,218 parameters at 21 classes."""
    return TorchvisionReference("fcn_resnet50", num_classes, classifier="resnet50", **options)


@register_model(
    "torchvision_fcn_resnet101", display_name="torchvision FCN (ResNet-101)", backbone="resnet101"
)
def torchvision_fcn_resnet101(num_classes: int, **options: Any) -> TorchvisionReference:
    """Return torchvision's ``fcn_resnet101``: 54,314,346 parameters at 21 classes."""
    return TorchvisionReference("fcn_resnet101", num_classes, classifier="resnet101", **options)


@register_model(
    "torchvision_deeplabv3_resnet50",
    paper=DEEPLAB_V3,
    year=2017,
    display_name="torchvision DeepLab v3 (ResNet-50)",
    backbone="resnet50",
    min_batch=2,
)
def torchvision_deeplabv3_resnet50(num_classes: int, **options: Any) -> TorchvisionReference:
    """Return torchvision's ``deeplabv3_resnet50``: 42,004,074 parameters at 21 classes."""
    return TorchvisionReference("deeplabv3_resnet50", num_classes, classifier="resnet50", **options)


@register_model(
    "torchvision_deeplabv3_mobilenet_v3_large",
    paper=DEEPLAB_V3,
    year=2017,
    display_name="torchvision DeepLab v3 (MobileNetV3-Large)",
    backbone="mobilenet_v3_large",
    min_batch=2,
)
def torchvision_deeplabv3_mobilenet_v3_large(
    num_classes: int, **options: Any
) -> TorchvisionReference:
    """Return torchvision's network of this name: 11,029,328 parameters at 21 classes."""
    return TorchvisionReference(
        "deeplabv3_mobilenet_v3_large", num_classes, classifier="mobilenet_v3_large", **options
    )


@register_model(
    "torchvision_lraspp_mobilenet_v3_large",
    paper="Searching for MobileNetV3",
    year=2019,
    display_name="torchvision LR-ASPP (MobileNetV3-Large)",
    backbone="mobilenet_v3_large",
)
def torchvision_lraspp_mobilenet_v3_large(num_classes: int, **options: Any) -> TorchvisionReference:
    """Return torchvision's ``lraspp_mobilenet_v3_large``: 3,221,538 parameters at 21 classes."""
    return TorchvisionReference(
        "lraspp_mobilenet_v3_large",
        num_classes,
        classifier="mobilenet_v3_large",
        aux=False,
        **options,
    )
