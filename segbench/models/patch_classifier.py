"""Sliding-window patch classification, the baseline that dense networks replaced.

An image classifier looks at a window round a pixel and names the class of the centre; the
window slides over the image with a stride, and nothing is shared between windows. The form is
that of Ciresan et al., "Deep Neural Networks Segment Neuronal Membranes in Electron
Microscopy Images", NIPS 2012. Training reads random windows of the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from segbench.layers.bilinear import linear_as_convolution
from segbench.layers.conv import resize
from segbench.models.bases.semantic import SemanticModel, SemanticTargets
from segbench.models.pretrained import classifier_state
from segbench.models.registry import register_model

PAPER = "Deep Neural Networks Segment Neuronal Membranes in Electron Microscopy Images"
YEAR = 2012
TASK = "semantic"

WINDOWS_AT_ONCE = 256
"""Windows of one pass through the classifier; bounds the memory."""


class PatchClassifier(SemanticModel):
    """A classifier slid over the image, whose edge pixels are repeated outwards.

    In training mode ``forward`` returns ``window_logits`` [N, P, C] of P random windows an
    image and their ``centres`` int64 [N, P, 2] (row, column); otherwise ``logits``.

    Args:
        classifier: Maps windows [M, 3, window, window] to scores [M, C].
        num_classes: Classes C.
        window: Side of a window in pixels.
        stride: Pixels between the centres of neighbouring windows.
        training_windows: Random windows an image gives to one optimiser step.
    """

    def __init__(
        self,
        classifier: nn.Module,
        num_classes: int,
        *,
        window: int,
        stride: int,
        training_windows: int = 64,
    ) -> None:
        super().__init__(num_classes)
        self.classifier = classifier
        self.window = window
        self.stride = stride
        self.training_windows = training_windows

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return window logits in training mode, else logits [N, C, H, W]."""
        if self.training:
            return self._random_windows(images)
        height, width = images.shape[-2:]
        grid = self.classify_grid(self._pad(images)[..., self.stride // 2 :, self.stride // 2 :])
        whole = (grid.shape[-2] * self.stride, grid.shape[-1] * self.stride)
        return {"logits": resize(grid, whole)[..., :height, :width]}

    def classify_grid(self, images: Tensor) -> Tensor:
        """Return scores [N, C, rows, columns] of the windows that lie inside ``images``."""
        tops, lefts = (range(0, size - self.window + 1, self.stride) for size in images.shape[-2:])
        corners = [(n, top, left) for n in range(len(images)) for top in tops for left in lefts]
        scores = [
            self.classifier(self._cut(images, corners[start : start + WINDOWS_AT_ONCE]))
            for start in range(0, len(corners), WINDOWS_AT_ONCE)
        ]
        grid = torch.cat(scores).view(len(images), len(tops), len(lefts), self.num_classes)
        return grid.permute(0, 3, 1, 2)

    def loss(self, outputs: Mapping[str, Any], targets: SemanticTargets) -> dict[str, Tensor]:
        """Return the loss at window centres, or of the dense map outside training."""
        if "window_logits" not in outputs or targets.semantic is None:
            return super().loss(outputs, targets)
        rows, columns = outputs["centres"].unbind(-1)
        image = torch.arange(len(rows), device=rows.device)[:, None]
        labels = targets.semantic[image, rows, columns]
        logits = outputs["window_logits"].permute(0, 2, 1)[..., None]
        value = self.criterion(logits, labels[..., None], class_weights=self.class_weights)
        return {self.criterion.name: value}

    def _random_windows(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        shape = (len(images), self.training_windows)
        rows, columns = torch.randint(height, shape), torch.randint(width, shape)
        centres = torch.stack([rows, columns], dim=-1)
        corners = [(n, y, x) for n, each in enumerate(centres.tolist()) for y, x in each]
        scores = self.classifier(self._cut(self._pad(images), corners))
        return {
            "window_logits": scores.view(*shape, self.num_classes),
            "centres": centres.to(images.device),
        }

    def _pad(self, images: Tensor) -> Tensor:
        """Repeat the edges so that ``[y : y + window, x : x + window]`` is centred on (y, x).

        Below and right there is half a stride more, for the last window of odd sizes.
        """
        before = self.window // 2
        after = self.window - 1 - before + self.stride // 2
        return functional.pad(images, (before, after, before, after), mode="replicate")

    def _cut(self, images: Tensor, corners: list[tuple[int, int, int]]) -> Tensor:
        side = self.window
        return torch.stack([images[n, :, y : y + side, x : x + side] for n, y, x in corners])


class TinyClassifier(nn.Sequential):
    """Three valid strided convolutions and two linear layers; reads every pixel of its window."""

    WINDOW = 41
    STRIDE = 8
    """Product of the strides: the dense map of ``fully_convolutional`` has this step."""

    def __init__(self, num_classes: int, *, width: int = 24) -> None:
        widths = (width, 2 * width, 4 * width)
        super().__init__(
            *_valid_convolution(3, widths[0], kernel=5),
            *_valid_convolution(widths[0], widths[1], kernel=3),
            *_valid_convolution(widths[1], widths[2], kernel=3),
            nn.Flatten(),
            nn.Linear(16 * widths[2], 8 * width),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(8 * width, num_classes),
        )


def fully_convolutional(classifier: TinyClassifier) -> nn.Sequential:
    """Return the same network with its linear layers as 4x4 and 1x1 convolutions.

    Run on a whole image it gives the scores of every window at once: the step from sliding
    windows to fully convolutional networks.
    """
    kernels = iter((4, 1))
    return nn.Sequential(
        *(
            linear_as_convolution(layer, kernel=next(kernels))
            if isinstance(layer, nn.Linear)
            else layer
            for layer in classifier
            if not isinstance(layer, nn.Flatten)
        )
    )


def _valid_convolution(in_channels: int, out_channels: int, *, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride=2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def _torchvision_classifier(name: str, num_classes: int, weights: str) -> nn.Module:
    """Return a torchvision classifier whose last layer has ``num_classes`` outputs."""
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    state = classifier_state(name, weights=weights)
    if state is not None:
        last = ("fc.", "classifier.6.")
        kept = {key: tensor for key, tensor in state.items() if not key.startswith(last)}
        network.load_state_dict(network.state_dict() | kept)
    return network


@register_model(
    "patch_classifier_vgg16", display_name="Patch classifier (VGG-16)", backbone="vgg16"
)
def patch_classifier_vgg16(
    num_classes: int, *, stride: int = 16, backbone_weights: str = "none"
) -> PatchClassifier:
    """Return VGG-16 slid in windows of 224 pixels: 134,346,581 parameters at 21 classes."""
    classifier = _torchvision_classifier("vgg16", num_classes, backbone_weights)
    return PatchClassifier(classifier, num_classes, window=224, stride=stride)


@register_model(
    "patch_classifier_resnet18", display_name="Patch classifier (ResNet-18)", backbone="resnet18"
)
def patch_classifier_resnet18(
    num_classes: int, *, stride: int = 16, backbone_weights: str = "none"
) -> PatchClassifier:
    """Return ResNet-18 slid in windows of 224 pixels: 11,187,285 parameters at 21 classes."""
    classifier = _torchvision_classifier("resnet18", num_classes, backbone_weights)
    return PatchClassifier(classifier, num_classes, window=224, stride=stride)


@register_model("patch_classifier_tiny", display_name="Patch classifier (tiny)", size="tiny")
def patch_classifier_tiny(
    num_classes: int, *, stride: int = 4, width: int = 24, training_windows: int = 16
) -> PatchClassifier:
    """Return a small classifier slid in windows of 41 pixels."""
    return PatchClassifier(
        TinyClassifier(num_classes, width=width),
        num_classes,
        window=TinyClassifier.WINDOW,
        stride=stride,
        training_windows=training_windows,
    )
