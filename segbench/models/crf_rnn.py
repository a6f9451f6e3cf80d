"""CRF-RNN: a fully convolutional network whose last layer is a dense CRF.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang and Torr, "Conditional Random Fields as
Recurrent Neural Networks", ICCV 2015 (arXiv 1502.03240). FCN-8s gives the unary logits; mean
field, five steps in training and ten in testing, is a recurrent layer trained with it. It adds
1,323 = 3 x 21 x 21 learned numbers. Multiply-adds as counted leave its Gaussian filters out.

Convention: the authors' PyTorch release. Its FCN-8s differs from Caffe's in one thing: the first
upsampler, of the scores of fc7, has a bias (21 numbers) and all upsamplers learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from segbench.layers.mean_field import MeanField
from segbench.models.bases.semantic import SemanticModel
from segbench.models.fcn import FCN, TinyFCN
from segbench.models.parts.tiny_trunk import WIDTH
from segbench.models.registry import register_model

PAPER = "Conditional Random Fields as Recurrent Neural Networks"
YEAR = 2015
TASK = "semantic"

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

TINY_CRF = {
    "spatial_weight": 0.3,
    "bilateral_weight": 0.5,
    "theta_alpha": 10.0,
    "theta_beta": 20.0,
    "theta_gamma": 1.0,
}
"""Options of ``MeanField`` in the tiny form."""


class CRFRNN(SemanticModel):
    """A semantic network followed by mean field.

    ``image_mean`` and ``image_std``, by which images are normalised (colours from 0 to 1), are set
    from the recipe; the CRF measures colours in 8-bit units.

    Args:
        num_classes: Output channels.
        unary: Gives the logits to start from.
        crf: Options of ``MeanField``.
    """

    def __init__(self, num_classes: int, *, unary: SemanticModel, **crf: Any) -> None:
        super().__init__(num_classes)
        self.image_mean: tuple[float, ...] = IMAGENET_MEAN
        self.image_std: tuple[float, ...] = IMAGENET_STD
        self.unary = unary
        self.mean_field = MeanField(num_classes, **crf)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] of the marginals at the size of the images."""
        logits = self.unary(images)["logits"]
        with _full_precision(images.device.type):
            images = images.float()
            mean, std = images.new_tensor((self.image_mean, self.image_std))[..., None, None]
            return {"logits": self.mean_field(logits.float(), (images * std + mean) * 255)}

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the pretrained parameters of the unary network."""
        yield from self.unary.backbone_parameters()


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Switch autocast off, where the device has any: weights of a lattice need their digits."""
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()


def authors_fcn_8s(num_classes: int, *, backbone_weights: str = "none") -> FCN:
    """Return FCN-8s with learned upsamplers, the first of them with a bias."""
    network = FCN(num_classes, output_stride=8, backbone_weights=backbone_weights)
    for upsampler in (network.upscore2, network.upscore_pool4, network.upscore):
        upsampler.requires_grad_(True)
    network.upscore2.register_parameter("bias", nn.Parameter(torch.zeros(num_classes)))
    return network


@register_model("crf_rnn", display_name="CRF-RNN (FCN-8s)", backbone="vgg16")
def crf_rnn(num_classes: int, *, backbone_weights: str = "none", **crf: Any) -> CRFRNN:
    """Return CRF-RNN as the authors' PyTorch release: 134,491,103 parameters at 21 classes."""
    unary = authors_fcn_8s(num_classes, backbone_weights=backbone_weights)
    return CRFRNN(num_classes, unary=unary, **crf)


@register_model(
    "crf_rnn_tiny", display_name="CRF-RNN (tiny)", backbone="residual_trunk", size="tiny"
)
def crf_rnn_tiny(num_classes: int, *, width: int = WIDTH, **crf: Any) -> CRFRNN:
    """Return a small CRF-RNN for a CPU: a smaller FCN, and a CRF that starts weak and near.

    With the paper's weights and distances small digits were smoothed away before they were
    learned.
    """
    unary = TinyFCN(num_classes, width=width)
    return CRFRNN(num_classes, unary=unary, **{**TINY_CRF, **crf})
