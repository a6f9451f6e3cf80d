"""The small network that carries a family's head in its ``tiny`` form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from segbench.layers.conv import resize
from segbench.layers.residual_trunk import ResidualTrunk
from segbench.models._semantic import SemanticModel

WIDTH = 48


class TinyNetwork(SemanticModel):
    """A head on the stride-8 features of a small trunk; finer scores are added to its own.

    With the head alone, small digits were not learned in a short training on a CPU: at stride 8
    a digit is three cells wide.

    Args:
        num_classes: Output channels.
        head: Builds, for a number of channels, what turns features [N, channels, H / 8, W / 8]
            into scores.
        width: Channels of the trunk at stride 4.
    """

    def __init__(
        self, num_classes: int, *, head: Callable[[int], nn.Module], width: int = WIDTH
    ) -> None:
        super().__init__(num_classes)
        self.trunk = ResidualTrunk(width, output_stride=8)
        channels = self.trunk.channels
        self.head = head(channels["stride8"])
        self.fine = nn.ModuleDict(
            {name: nn.Conv2d(channels[name], num_classes, 1) for name in ("stride4", "stride2")}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [N, C, H, W] at the size of the images."""
        features = self.trunk(images)
        logits = self.with_fine_scores(self.head(features["stride8"]), features)
        return {"logits": resize(logits, (images.shape[-2], images.shape[-1]))}

    def with_fine_scores(self, logits: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Return scores of stride 8, enlarged, with those of strides 4 and 2 added."""
        return _with_finer(logits, features, self.fine.items())


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
