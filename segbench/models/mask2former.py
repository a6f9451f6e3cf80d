"""Mask2Former: every task as a set of masks, each with a class, that queries find.

Cheng, Misra, Schwing, Kirillov and Girdhar, "Masked-attention Mask Transformer for Universal
Image Segmentation", CVPR 2022 (arXiv 2112.01527). Counts follow the authors' code: ResNet-50
43,983,878 parameters at 133 classes and 43,988,247 at 150, BatchNorm fixed, 44,007,700 at 19 with
BatchNorm learned, as they train on Cityscapes; Swin-T 47,435,264 at 133.

One network serves three tasks: panoptic with things and stuff, semantic with stuff alone,
instance with things alone. Axes: N images, Q queries, K classes with "no object" last, C
classes without it, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.errors import ConfigError
from segbench.core.types import IGNORE_INDEX, Instances, Prediction, Task
from segbench.layers.conv import resize
from segbench.layers.query_merge import join, merge_masks
from segbench.models.backbones import Backbone, create_backbone
from segbench.models.bases.detection import DetectionTargets, Sizes
from segbench.models.bases.panoptic import PanopticParts, certain, label_map
from segbench.models.internimage import internimage
from segbench.models.parts.mask2former_loss import MaskCriterion, MaskTruth
from segbench.models.parts.mask2former_pixel_decoder import PixelDecoder
from segbench.models.parts.mask2former_prediction import (
    MASK_STRIDE,
    found_by_queries,
    mask_chances,
    mixture,
    stuff_masks,
    thing_masks,
)
from segbench.models.parts.mask2former_transformer import QueryDecoder
from segbench.models.parts.swin import OutputNorms, create_swin
from segbench.models.parts.tiny_trunk import DeeperTrunk
from segbench.models.registry import register_model

PAPER = "Masked-attention Mask Transformer for Universal Image Segmentation"
YEAR = 2022
TASK = "panoptic"
ALSO = ("semantic", "instance")
INTERNIMAGE = (
    "InternImage: Exploring Large-Scale Vision Foundation Models with Deformable Convolutions"
)

MAPS = ("stride4", "stride8", "stride16", "stride32")
DIVISOR = 32


class Mask2Former(nn.Module):
    """A backbone, a pixel decoder on its maps of strides 4 to 32, and the query decoder.

    ``task`` says what ``predict`` returns; ``panoptic_threshold`` and ``panoptic_overlap`` are
    those of ``merge_masks``.

    Args:
        backbone: Gives maps by stride.
        num_things: Thing classes.
        num_stuff: Stuff classes.
        width: Channels of both decoders.
        queries: Q.
        encoder_layers: Layers of the pixel decoder.
        decoder_layers: Layers of the query decoder, three a round.
        heads: Attention heads.
        encoder_feedforward: Hidden channels of a layer of the pixel decoder.
        decoder_feedforward: Hidden channels of a layer of the query decoder.
        criterion: The loss of one prediction; None: the paper's.
    """

    replaceable: tuple[str, ...] = ("semantic", "masks")
    same_work = True
    """``forward`` does the same whatever an image shows, so it is counted without values."""
    task: Task = "panoptic"

    def __init__(
        self,
        backbone: Backbone,
        num_things: int,
        num_stuff: int,
        *,
        width: int = 256,
        queries: int = 100,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        heads: int = 8,
        encoder_feedforward: int = 1024,
        decoder_feedforward: int = 2048,
        criterion: MaskCriterion | None = None,
    ) -> None:
        super().__init__()
        self.num_things, self.num_stuff = num_things, num_stuff
        self.criterion = criterion or MaskCriterion()
        self.backbone = backbone
        self.pixel_decoder = PixelDecoder(
            [backbone.channels[name] for name in MAPS],
            width,
            layers=encoder_layers,
            heads=heads,
            feedforward=encoder_feedforward,
        )
        self.query_decoder = QueryDecoder(
            num_things + num_stuff,
            width,
            queries=queries,
            layers=decoder_layers,
            heads=heads,
            feedforward=decoder_feedforward,
        )
        self.score_threshold = 0.0
        self.panoptic_threshold = 0.8
        self.panoptic_overlap = 0.2

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return ``classes`` and ``masks``, logits [N, Q, K] and [N, Q, H / 4, W / 4].

        Both are lists over the depths of the decoder, in evaluation of the last one alone.
        Images [N, 3, H, W] are padded to multiples of 32. A semantic network in evaluation
        gives ``logits`` [N, C, H, W] besides.
        """
        height, width = images.shape[-2:]
        features = self.backbone(
            functional.pad(images, (0, -width % DIVISOR, 0, -height % DIVISOR))
        )
        predictions = self.query_decoder(*self.pixel_decoder([features[name] for name in MAPS]))
        if not self.training:
            predictions = predictions[-1:]
        outputs: dict[str, Any] = {
            "classes": [prediction.classes for prediction in predictions],
            "masks": [prediction.masks for prediction in predictions],
        }
        if self.task == "semantic" and not self.training:
            outputs["logits"] = self._logits(outputs, (height, width))
        return outputs

    def loss(self, outputs: Mapping[str, Any], targets: DetectionTargets) -> dict[str, Tensor]:
        """Return class, mask and Dice losses, each the sum over the depths of the decoder.

        Masks of things are those of ``targets.instances``, of stuff the regions of
        ``targets.semantic``, panoptic indices; what is ignored belongs to no mask. Masks are
        counted in this process, not over all GPUs as in the authors' code.

        Raises:
            ConfigError: The targets lack what the classes need.
        """
        height, width = (MASK_STRIDE * int(side) for side in outputs["masks"][-1].shape[-2:])
        truth = [self._truth(targets, n, (height, width)) for n in range(len(targets.sizes))]
        total: dict[str, Tensor] = {}
        with torch.autocast(outputs["masks"][-1].device.type, enabled=False):
            for classes, masks in zip(outputs["classes"], outputs["masks"], strict=True):
                for name, value in self.criterion(classes, masks, truth).items():
                    total[name] = total[name] + value if name in total else value
        return total

    @torch.no_grad()
    def predict(self, outputs: dict[str, Any], sizes: Sizes) -> list[Prediction]:
        """Return what ``task`` has: a semantic map, objects, or both with the panoptic map."""
        if self.task == "semantic":
            return [
                Prediction(semantic=label_map(resize(logits[None].float(), size)[0]))
                for logits, size in zip(outputs["logits"], sizes, strict=True)
            ]
        parts = self.parts(outputs, sizes)
        if self.task == "instance":
            return [Prediction(instances=one.instances) for one in parts]
        return [self.merge(one) for one in parts]

    @torch.no_grad()
    def parts(
        self, outputs: dict[str, Any], sizes: Sizes, boxes: Sequence[Instances] | None = None
    ) -> list[PanopticParts]:
        """Return the objects and the logits [C, h, w] of the mixture of all queries.

        Raises:
            ConfigError: ``boxes`` are given; masks are not found within boxes here.
        """
        if boxes is not None:
            raise ConfigError(
                "Mask2Former finds masks without boxes, so none can be given to it",
                fix=f"for this model an oracle is of {' or '.join(self.replaceable)}",
            )
        return [
            found_by_queries(
                classes.float().softmax(-1)[:, :-1],
                chances,
                num_things=self.num_things,
                score_threshold=self.score_threshold,
            )
            for classes, chances in zip(
                outputs["classes"][-1], mask_chances(outputs["masks"][-1], sizes), strict=True
            )
        ]

    def truth_scores(self, semantic: Tensor) -> Tensor:
        """Return logits [C, H, W] that are certain of panoptic indices [H, W]."""
        return certain(semantic, self.num_things + self.num_stuff)

    def merge(self, parts: PanopticParts) -> Prediction:
        """Give each pixel to a query; ``semantic`` is the likeliest class of the mixture.

        Where ``parts.scores`` are not the network's own, each stuff class they favour somewhere
        stands there as one certain mask in place of the queries of stuff.
        """
        panoptic = merge_masks(
            join(thing_masks(parts), stuff_masks(parts, self.num_things)),
            num_things=self.num_things,
            score_threshold=self.panoptic_threshold,
            overlap_threshold=self.panoptic_overlap,
        )
        return Prediction(
            semantic=label_map(parts.scores), instances=parts.instances, panoptic=panoptic
        )

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that ``backbone_lr_factor`` applies to."""
        yield from self.backbone.parameters()

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """Return the layers that ``layer_decay`` tells apart, first to last."""
        return self.backbone.layers()

    def _truth(self, targets: DetectionTargets, index: int, size: tuple[int, int]) -> MaskTruth:
        """Return the masks of one image, padded to ``size``."""
        parts: list[MaskTruth] = []
        if self.num_things:
            if targets.instances is None:
                raise ConfigError("Mask2Former needs targets with instances; found none")
            objects = targets.instances[index]
            parts.append(MaskTruth(objects["labels"] - 1, objects["masks"]))
        if self.num_stuff:
            if targets.semantic is None:
                raise ConfigError("Mask2Former needs targets with a semantic map; found none")
            semantic = targets.semantic[index]
            classes = torch.unique(semantic)
            classes = classes[(classes >= self.num_things) & (classes != IGNORE_INDEX)]
            parts.append(MaskTruth(classes, semantic[None] == classes[:, None, None]))
        masks = torch.cat([part.masks for part in parts])
        missing = (0, size[1] - masks.shape[2], 0, size[0] - masks.shape[1])
        labels = torch.cat([part.labels for part in parts])
        return MaskTruth(labels, functional.pad(masks, missing))

    def _logits(self, outputs: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
        classes, masks = outputs["classes"][-1].float().softmax(-1)[..., :-1], outputs["masks"][-1]
        chances = torch.stack(mask_chances(masks, [size] * len(masks)))
        return mixture(classes, chances)


@register_model("mask2former_resnet50", display_name="Mask2Former", backbone="resnet50")
def mask2former_resnet50(
    num_things: int,
    num_stuff: int,
    *,
    backbone_weights: str = "none",
    frozen_norm: bool = True,
    queries: int = 100,
) -> Mask2Former:
    """Return Mask2Former on ResNet-50: 43,983,878 parameters at 80 things and 53 stuff classes.

    Args:
        num_things: Thing classes; 0 for a semantic network.
        num_stuff: Stuff classes; 0 for an instance network.
        backbone_weights: ``none``, ``imagenet`` or a safetensors file.
        frozen_norm: Fixed BatchNorm; the authors learn it on Cityscapes.
        queries: Most masks of an image.
    """
    backbone = create_backbone("resnet50", weights=backbone_weights, frozen_norm=frozen_norm)
    return Mask2Former(backbone, num_things, num_stuff, queries=queries)


@register_model("mask2former_swin_t", display_name="Mask2Former (Swin-T)", backbone="swin_t")
def mask2former_swin_t(
    num_things: int,
    num_stuff: int,
    *,
    backbone_weights: str = "none",
    drop_path: float = 0.3,
    queries: int = 100,
) -> Mask2Former:
    """Return Mask2Former on Swin-T: 47,435,264 parameters at 80 things and 53 stuff classes.

    Arguments as for ResNet-50; ``drop_path`` as in ``Swin``.
    """
    swin = create_swin("swin_t", weights=backbone_weights, drop_path=drop_path)
    return Mask2Former(OutputNorms(swin), num_things, num_stuff, queries=queries)


@register_model(
    "mask2former_internimage_h",
    paper=INTERNIMAGE,
    year=2023,
    display_name="Mask2Former (InternImage-H)",
    backbone="internimage_h",
)
def mask2former_internimage_h(
    num_things: int,
    num_stuff: int,
    *,
    backbone_weights: str = "none",
    drop_path: float = 0.5,
    queries: int = 200,
) -> Mask2Former:
    """Return InternImage-H with the wide Mask2Former head its authors train on ADE20K.

    Arguments as for ResNet-50, but no ``imagenet``; ``drop_path`` as in ``InternImage``.
    """
    return Mask2Former(
        internimage("h", weights=backbone_weights, drop_path=drop_path),
        num_things,
        num_stuff,
        width=1024,
        queries=queries,
        heads=32,
        encoder_feedforward=4096,
        decoder_feedforward=4096,
    )


@register_model("mask2former_lite0", display_name="Mask2Former", backbone="efficientnet_lite0")
def mask2former_lite0(
    num_things: int,
    num_stuff: int,
    *,
    backbone_weights: str = "none",
    queries: int = 50,
    points: int = 2048,
) -> Mask2Former:
    """Return a narrow Mask2Former on a pretrained network small enough to fine-tune on a CPU.

    Arguments as for ResNet-50; ``points``: where masks are compared.
    """
    backbone = create_backbone("efficientnet_lite0", weights=backbone_weights, frozen_norm=True)
    return Mask2Former(
        backbone,
        num_things,
        num_stuff,
        width=128,
        queries=queries,
        encoder_layers=1,
        decoder_layers=3,
        encoder_feedforward=256,
        decoder_feedforward=512,
        criterion=MaskCriterion(points=points),
    )


@register_model(
    "mask2former_tiny", display_name="Mask2Former (tiny)", backbone="residual_trunk", size="tiny"
)
def mask2former_tiny(
    num_things: int,
    num_stuff: int,
    *,
    width: int = 64,
    trunk_width: int = 48,
    queries: int = 20,
    encoder_layers: int = 1,
    decoder_layers: int = 3,
    points: int = 512,
) -> Mask2Former:
    """Return a small Mask2Former for a CPU.

    Args:
        num_things: Thing classes; 0 for a semantic network.
        num_stuff: Stuff classes; 0 for an instance network.
        width: Channels of both decoders.
        trunk_width: Channels of the trunk at stride 4.
        queries: Most masks of an image.
        encoder_layers: Layers of the pixel decoder.
        decoder_layers: Layers of the query decoder, three a round.
        points: Points at which masks are compared.
    """
    return Mask2Former(
        DeeperTrunk(trunk_width),
        num_things,
        num_stuff,
        width=width,
        queries=queries,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        heads=4,
        encoder_feedforward=2 * width,
        decoder_feedforward=4 * width,
        criterion=MaskCriterion(points=points),
    )
