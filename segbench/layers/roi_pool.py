"""Pooling of regions as it was before RoIAlign: borders and bins rounded to feature cells.

Girshick, "Fast R-CNN", ICCV 2015, on the levels of a feature pyramid as in Lin et al., CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import MultiScaleRoIAlign, roi_pool
from torchvision.ops.poolers import LevelMapper


class MultiScaleRoIPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """The largest value of each bin of a region, on the level that fits its size.

    A ``MultiScaleRoIAlign`` to torchvision's detectors, which take no other pooling.

    Args:
        levels: Maps that regions are pooled from, fine to coarse; ``"0"`` has stride 4, ``"1"`` 8.
        output_size: Bins along each side.
    """

    def __init__(self, levels: Sequence[str], output_size: int) -> None:
        super().__init__(list(levels), output_size, sampling_ratio=1)
        self.levels = tuple(levels)
        finest, coarsest = int(self.levels[0]), int(self.levels[-1])
        self.level_of: Any = LevelMapper(finest + 2, coarsest + 2)

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Return float32 [R, C, B, B] of the boxes of all images, x1, y1, x2, y2 in pixels.

        Args:
            features: Maps [N, C, H, W] by level.
            boxes: Boxes [r, 4] of each image.
            sizes: Not read; torchvision's poolers take the images' sizes.
        """
        regions = torch.cat(
            [functional.pad(b.float(), (1, 0), value=n) for n, b in enumerate(boxes)]
        )
        chosen = self.level_of(boxes)
        order = torch.cat([torch.nonzero(chosen == i)[:, 0] for i in range(len(self.levels))])
        pooled = [
            self._pool(features[level], regions[chosen == i], 4 << int(level))
            for i, level in enumerate(self.levels)
        ]
        return torch.cat(pooled)[order.argsort()]

    def _pool(self, features: Tensor, regions: Tensor, stride: int) -> Tensor:
        pooled: Tensor = roi_pool(features.float(), regions, self.output_size, 1 / stride)
        return pooled
