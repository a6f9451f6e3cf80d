"""Losses on logits and label maps; ``Criterion`` is the one a recipe chooses.

Every loss ignores label 255, is 0 with a zero gradient where every pixel is ignored, and is
computed in float32 (float64 of float64) whatever the precision of the network.
"""

from segbench.losses.criterion import Criterion
from segbench.losses.pixel import cross_entropy, focal, ohem
from segbench.losses.presence import class_presence, presence_of
from segbench.losses.region import dice, jaccard, lovasz

__all__ = [
    "Criterion",
    "class_presence",
    "cross_entropy",
    "dice",
    "focal",
    "jaccard",
    "lovasz",
    "ohem",
    "presence_of",
]
