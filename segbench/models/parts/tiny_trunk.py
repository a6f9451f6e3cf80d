"""The small trunks that carry a family's head in its forms for a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor, nn

from segbench.layers.conv import ConvNormAct, resize
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models.backbones import Backbone, Features, create_backbone
from segbench.models.bases.semantic import SemanticModel

WIDTH = 48


class TinyNetwork(SemanticModel):
    """A head on the deepest features of a trunk; scores of the two maps before are added.

    With the head alone, small digits were not learned in a short training on a CPU: at stride 8
    a digit is three cells wide.

    Args:
        num_classes: Output channels.
        head: Builds, for a number of channels, what turns features [N, channels, H / s, W / s]
            into scores.
        width: Channels at stride 4 of the trunk that is made where none is given.
        trunk: Gives features of several strides; a small one of stride 8 by default.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        head: Callable[[int], nn.Module],
        width: int = WIDTH,
        trunk: ResidualTrunk | Backbone | None = None,
    ) -> None:
        super().__init__(num_classes)
        self.trunk = trunk or ResidualTrunk(width, output_stride=8)
        channels = self.trunk.channels
        *_, finer, fine, self.deepest = channels
        self.head = head(channels[self.deepest])
        self.fine = nn.ModuleDict(
            {name: nn.Conv2d(channels[name], num_classes, 1) for name in (fine, finer)}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.trunk(images)
        logits = self.with_fine_scores(self.head(features[self.deepest]), features)
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}

    def with_fine_scores(self, logits: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of the deepest map, enlarged, with those of two finer ones added."""
        return _with_finer(logits, features, self.fine.items())

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the trunk."""
        yield from self.trunk.parameters()


def lite0_trunk(weights: str, *, output_stride: int = 16) -> Backbone:
    """Return EfficientNet-Lite0, whose ImageNet weights come with ``segbench[weights]``."""
    return create_backbone("efficientnet_lite0", weights=weights, output_stride=output_stride)


def coarse_to_fine(scores: nn.ModuleDict, features: Mapping[str, Tensor]) -> Tensor:
    """Return the scores of all maps, enlarged and added up to those of the finest.

    ``scores`` turns the features of the same name into scores, finest first.
    """
    (name, coarsest), *finer = reversed(list(scores.items()))
    return _with_finer(coarsest(features[name]), features, finer)


def _with_finer(
    logits: Tensor, features: Mapping[str, Tensor], scores: Iterable[tuple[str, nn.Module]]
) -> Tensor:
    for name, score in scores:
        fine = score(features[name])
        logits = fine + resize(logits, (fine.shape[-2], fine.shape[-1]))
    return logits


class DeeperTrunk(Backbone):
    """A small residual trunk with one more stage, of stride 32.

    The trunk is named as in the tiny semantic networks, so that ``init_into: backbone`` fills it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = ResidualTrunk(width)
        deepest = self.trunk.channels["stride16"]
        self.deeper = ConvNormAct(deepest, deepest, stride=2)
        self.channels = {**self.trunk.channels, "stride32": deepest}

    def forward(self, images: Tensor) -> Features:
        """Return features at strides 2 to 32."""
        maps: Features = self.trunk(images)
        return {**maps, "stride32": self.deeper(maps["stride16"])}
