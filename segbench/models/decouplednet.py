"""DecoupledNet.

Hong, Noh and Han, "Decoupled Deep Neural Network for Semi-supervised Semantic Segmentation",
NIPS 2015 (arXiv 1506.04924). A classifier says which classes an image has; for one class at a
time, bridging layers carry its relevance back to the last pooled map, and a segmentation
network, DeconvNet's decoder with the classifier's unpooling places, tells that class from the
rest of the image. The two branches have losses of their own, so that image labels of many
pictures and masks of few can train them. Counts follow the authors' Caffe definition, whose
stored blobs include the bridging copies of the classifier's layers: 427,078,678 at 20 classes
and background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segbench.core.types import IGNORE_INDEX
from segbench.layers.conv import resize
from segbench.layers.losses.pixel import cross_entropy
from segbench.layers.losses.presence import presence_of
from segbench.layers.unpool import Memory, pool_through
from segbench.layers.vgg import mirrored_widths, small_stages, vgg16_stages
from segbench.models.bases.semantic import SemanticModel, SemanticTargets
from segbench.models.deconvnet import DECODER, UnpoolingDecoder, norm_relu
from segbench.models.parts.vgg_weights import fill_vgg16
from segbench.models.registry import register_model

PAPER = "Decoupled Deep Neural Network for Semi-supervised Semantic Segmentation"
YEAR = 2015
TASK = "semantic"

UNSEEN = -50.0
"""Score of a class the classifier does not find."""


class Classifier(nn.Module):
    """VGG stages and three fully connected layers, with everything the bridge needs kept.

    Args:
        stages: Convolutions; pooling follows each.
        channels: Channels of the last pooled map.
        fc_channels: Channels of fc6 and fc7.
        window: Side of the last pooled map.
        num_objects: Classes it can find.
    """

    def __init__(
        self,
        stages: nn.ModuleList,
        *,
        channels: int,
        fc_channels: int,
        window: int,
        num_objects: int,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.fc6 = nn.Conv2d(channels, fc_channels, window)
        self.fc7 = nn.Conv2d(fc_channels, fc_channels, 1)
        self.fc8 = nn.Conv2d(fc_channels, num_objects, 1)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return ``presence`` logits [N, K] and the maps and places behind them."""
        features, memory = pool_through(self.stages, images)
        hidden6 = functional.relu(self.fc6(features))
        hidden7 = functional.relu(self.fc7(functional.dropout(hidden6, training=self.training)))
        scores = self.fc8(functional.dropout(hidden7, training=self.training))
        return {
            "presence": scores.flatten(1),
            "pooled": features,
            "hidden": (hidden6, hidden7),
            "memory": memory,
        }


class Bridge(nn.Module):
    """Carries the relevance of one class from its score back to the last pooled map.

    Its layers are transposed copies of the classifier's, never trained themselves; where a
    ReLU was shut on the way up, nothing passes on the way down.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.fc8 = _transposed_copy(classifier.fc8)
        self.fc7 = _transposed_copy(classifier.fc7)
        self.fc6 = _transposed_copy(classifier.fc6)
        channels = classifier.fc6.in_channels
        self.norm_pooled = nn.BatchNorm2d(channels)
        self.norm_relevance = nn.BatchNorm2d(channels)

    @torch.no_grad()
    def copy_from(self, classifier: Classifier) -> None:
        """Take over the classifier's weights as they are now."""
        for name in ("fc6", "fc7", "fc8"):
            source: nn.Conv2d = getattr(classifier, name)
            getattr(self, name).weight.copy_(source.weight)

    def forward(self, found: Mapping[str, Any], label: Tensor) -> Tensor:
        """Return pooled features and relevance of class ``label`` [N], side by side."""
        hidden6, hidden7 = found["hidden"]
        classes = found["presence"].shape[1]
        chosen = functional.one_hot(label, classes).to(hidden7)[..., None, None]
        relevance = self.fc8(chosen) * (hidden7 > 0)
        relevance = self.fc7(relevance) * (hidden6 > 0)
        relevance = self.fc6(relevance)
        pooled = self.norm_pooled(found["pooled"])
        return torch.cat([pooled, self.norm_relevance(relevance)], dim=1)


class BinarySegmentation(nn.Module):
    """Bridged features to two scores a pixel: the rest of the image, the chosen class."""

    def __init__(
        self, channels: int, *, fc_channels: int, window: int, decoder: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.fc6 = norm_relu(nn.Conv2d(2 * channels, fc_channels, window))
        self.fc7 = norm_relu(nn.Conv2d(fc_channels, fc_channels, 1))
        self.fc6_deconv = norm_relu(nn.ConvTranspose2d(fc_channels, channels, window))
        self.decoder = UnpoolingDecoder(decoder)
        self.classifier = nn.Conv2d(decoder[-1][-1], 2, 1)

    def forward(self, bridged: Tensor, memory: Memory) -> Tensor:
        """Return scores [N, 2, H, W]."""
        features = self.fc6_deconv(self.fc7(self.fc6(bridged)))
        scores: Tensor = self.classifier(self.decoder(features, memory))
        return scores


class DecoupledNet(SemanticModel):
    """Classifier, bridge and binary segmentation, on images resized to one size.

    Args:
        num_classes: Output channels.
        classifier: Finds the classes of an image.
        segmentation: Tells one class from the rest.
        side: Height and width the images are resized to.
        background: Class 0 is the rest of the image and is not looked for.
    """

    own_loss = True

    def __init__(
        self,
        num_classes: int,
        *,
        classifier: Classifier,
        segmentation: BinarySegmentation,
        side: int,
        background: bool,
    ) -> None:
        super().__init__(num_classes)
        self.first_object = int(background)
        self.side = side
        self.classification = classifier
        self.bridge = Bridge(classifier)
        self.segmentation = segmentation

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return ``presence`` logits [N, K] and, outside of training, ``logits`` [N, C, H, W].

        A class that is not found scores -50; the best class of an image always is found.
        """
        if self.training:
            self.bridge.copy_from(self.classification)
        found: dict[str, Any] = self.classification(resize(images, (self.side, self.side)))
        if self.training:
            return found  # which class to segment is known with the targets
        size = (images.shape[-2], images.shape[-1])
        return {"presence": found["presence"], "logits": self._segment_found(found, size)}

    def loss(self, outputs: Mapping[str, Any], targets: SemanticTargets) -> dict[str, Tensor]:
        """Return ``classification``, for every image, and ``segmentation``, for those with masks.

        One class of each image, drawn at random among those present, is segmented.
        """
        presence, semantic = outputs["presence"], targets.semantic
        assert semantic is not None
        truth = presence_of(semantic, self.num_classes)[:, self.first_object :]
        given: Tensor | None = getattr(targets, "presence", None)
        objects = slice(self.first_object, self.num_classes)
        labels = truth if given is None else given[:, objects].to(truth)
        classification = functional.binary_cross_entropy_with_logits(presence.float(), labels)
        strong = truth.sum(1) > 0
        label = torch.multinomial(truth + 1e-6, 1).flatten()
        detached = {key: _detached(value) for key, value in outputs.items()}
        scores = self._segment(detached, label)
        binary = self._one_against_rest(semantic, label, strong, scores)
        return {"classification": classification, "segmentation": cross_entropy(scores, binary)}

    def _one_against_rest(
        self, semantic: Tensor, label: Tensor, strong: Tensor, scores: Tensor
    ) -> Tensor:
        """Return 1 where the chosen class is, 0 elsewhere, ignored where there is no mask."""
        size = (scores.shape[-2], scores.shape[-1])
        shrunk = functional.interpolate(semantic[:, None].float(), size, mode="nearest")[:, 0]
        truth = shrunk.long()
        chosen = label + self.first_object
        binary = (truth == chosen[:, None, None]).long()
        ignored = (truth == IGNORE_INDEX) | ~strong[:, None, None]
        return binary.masked_fill(ignored, IGNORE_INDEX)

    def _segment(self, found: Mapping[str, Any], label: Tensor) -> Tensor:
        scores: Tensor = self.segmentation(self.bridge(found, label), found["memory"])
        return scores

    def _segment_found(self, found: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
        """Run the segmentation once for every class that some image has."""
        presence = found["presence"]
        seen = (presence > 0) | (presence == presence.amax(1, keepdim=True))
        shape = (len(presence), self.num_classes, *size)
        logits = torch.full(shape, UNSEEN, dtype=presence.dtype, device=presence.device)
        if self.first_object:
            logits[:, 0] = 0.0
        for k in torch.nonzero(seen.any(0)).flatten().tolist():
            label = torch.full((len(presence),), k, device=presence.device)
            scores = self._segment(found, label)
            margin = resize((scores[:, 1] - scores[:, 0])[:, None], size)[:, 0]
            unseen = ~seen[:, k, None, None]
            logits[:, k + self.first_object] = margin.masked_fill(unseen, UNSEEN)
        return logits


def _transposed_copy(layer: nn.Conv2d) -> nn.ConvTranspose2d:
    window = layer.kernel_size[0]
    copy = nn.ConvTranspose2d(layer.out_channels, layer.in_channels, window)
    with torch.no_grad():
        copy.weight.copy_(layer.weight)
        assert copy.bias is not None
        copy.bias.zero_()
    return copy.requires_grad_(False)


def _detached(value: Any) -> Any:
    """Cut what the classifier made off from its gradient: the branches train apart."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return type(value)(_detached(part) for part in value)
    return value


@register_model("decouplednet", display_name="DecoupledNet", backbone="vgg16")
def decouplednet(
    num_classes: int, *, background: bool = True, backbone_weights: str = "none"
) -> DecoupledNet:
    """Return DecoupledNet: 427,078,678 stored numbers at 20 classes and background (21)."""
    objects = num_classes - int(background)
    classifier = Classifier(
        vgg16_stages(), channels=512, fc_channels=4096, window=7, num_objects=objects
    )
    fill_vgg16(backbone_weights, classifier.stages, classifier.fc6, classifier.fc7)
    segmentation = BinarySegmentation(512, fc_channels=2048, window=7, decoder=DECODER)
    return DecoupledNet(
        num_classes,
        classifier=classifier,
        segmentation=segmentation,
        side=224,
        background=background,
    )


@register_model("decouplednet_tiny", display_name="DecoupledNet (tiny)", size="tiny")
def decouplednet_tiny(
    num_classes: int, *, width: int = 24, background: bool = False
) -> DecoupledNet:
    """Return a small DecoupledNet for a CPU: four stages, images of 96x96."""
    widths = (width, 2 * width, 3 * width, 4 * width)
    decoder = mirrored_widths(widths)
    deep, window = widths[-1], 6
    classifier = Classifier(
        small_stages(widths),
        channels=deep,
        fc_channels=deep,
        window=window,
        num_objects=num_classes - int(background),
    )
    segmentation = BinarySegmentation(deep, fc_channels=deep, window=window, decoder=decoder)
    return DecoupledNet(
        num_classes,
        classifier=classifier,
        segmentation=segmentation,
        side=96,
        background=background,
    )
