"""Which points of LPSNet's pyramid stand for which object, and how central they are in it.

Axes: P points of all levels, n objects of an image, L levels, H rows, W columns. Places are
pixels; distances are measured from the centre of a pixel to edges between pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from segbench.core.errors import ConfigError

QUALITIES = ("borderness", "centerness")
OVERLAPS = ("closest_borderness", "highest_confidence", "smallest_area")
POSITIVES = ("point", "cell")
REACH = 8
"""A level of stride s regresses distances of up to 8 s pixels, as FCOS (64 at stride 8)."""


@dataclass(frozen=True)
class Points:
    """The points of some levels, finest level first, each level row by row."""

    places: Tensor
    """int64 [P, 2]: (x, y) of the pixel in the middle of each cell."""
    strides: Tensor
    """int64 [P]."""
    levels: tuple[tuple[int, tuple[int, int]], ...]
    """Stride, and rows and columns, of each level."""

    @classmethod
    def of(cls, size: tuple[int, int], strides: Sequence[int], device: torch.device) -> Points:
        """Return the points of an image of (height, width) at each stride."""
        levels = tuple((s, (-(-size[0] // s), -(-size[1] // s))) for s in strides)
        each = [torch.full((rows * columns,), s, device=device) for s, (rows, columns) in levels]
        places = [_middles(*level, device) for level in levels]
        return cls(torch.cat(places), torch.cat(each), levels)

    def inside(self, size: tuple[int, int]) -> Tensor:
        """Return bool [P]: the points on an image of (height, width)."""
        return (self.places[:, 0] < size[1]) & (self.places[:, 1] < size[0])

    def read(self, maps: Tensor, *, stride: int = 1) -> Tensor:
        """Return the values [..., P] of maps [..., H, W] of a stride at the points.

        Points beyond the last row or column read that.
        """
        height, width = maps.shape[-2:]
        x = (self.places[:, 0] // stride).clamp(max=width - 1)
        y = (self.places[:, 1] // stride).clamp(max=height - 1)
        return maps[..., y, x]


@dataclass(frozen=True)
class Samples:
    """Points of one image that an object owns; k of them.

    ``points`` int64 [k], ``objects`` int64 [k], ``quality`` float32 [k] in [0, 1].
    """

    points: Tensor
    objects: Tensor
    quality: Tensor


@dataclass(frozen=True)
class SampleRule:
    """How points become positive samples, and what measures their quality.

    Args:
        quality: ``borderness``, FCOS's formula on the distances to the border of the mask along
            the row and the column; ``centerness``, the same on the distances to the box.
        overlap: The object that owns a point of several. ``closest_borderness``: whose quality
            is nearest to the one the network predicts; ``highest_confidence``: whose class the
            network finds likeliest there; ``smallest_area``: of the smallest box. What is left
            undecided goes to the smallest box.
        positives: ``point``, the pixel of a point lies in the mask; ``cell``, the mask covers
            any pixel of its cell, and the point lies in the box. Where masks are disjoint only
            cells belong to several objects.

    Raises:
        ConfigError: There is no such choice.
    """

    quality: str = "borderness"
    overlap: str = "closest_borderness"
    positives: str = "point"

    def __post_init__(self) -> None:
        choices = {"quality": QUALITIES, "overlap": OVERLAPS, "positives": POSITIVES}
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"LPSNet: {name} '{value}' is unknown",
                    fix=f"one of {', '.join(known)}",
                )

    def samples(
        self, points: Points, truth: dict[str, Tensor], quality: Tensor, chances: Tensor
    ) -> Samples:
        """Return the positive samples of one image.

        Args:
            points: All points.
            truth: ``boxes`` [n, 4], ``labels`` [n] from 1 and ``masks`` [n, H, W].
            quality: What the network predicts at each point, [P] in [0, 1].
            chances: Of each thing class there, [T, P].
        """
        boxes, masks = truth["boxes"].float(), truth["masks"]
        order = box_areas(boxes).argsort(stable=True)
        boxes, masks, labels = boxes[order], masks[order], truth["labels"][order]
        sides = box_distances(points, boxes)
        true_quality = centrality(
            sides if self.quality == "centerness" else border_distances(points, masks)
        )
        if self.overlap == "smallest_area":
            costs = box_areas(boxes)[:, None].expand_as(true_quality)
        elif self.overlap == "highest_confidence":
            costs = -chances[labels - 1]
        else:
            costs = (true_quality - quality).abs()
        owned = self._covered(points, masks) & _in_reach(points, sides)
        chosen, owner = choose(costs, owned)
        return Samples(chosen, order[owner], true_quality[owner, chosen])

    def _covered(self, points: Points, masks: Tensor) -> Tensor:
        """Return bool [n, P]: which objects claim a point."""
        if self.positives == "point":
            return points.read(masks) & points.inside((masks.shape[-2], masks.shape[-1]))
        return torch.cat([_cells(masks, *level).flatten(1) for level in points.levels], dim=1)


def choose(costs: Tensor, claimed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the claimed points int64 [k] and the object int64 [k] of least cost at each.

    Args:
        costs: [n, P]; of equal ones the first object's is taken.
        claimed: bool [n, P].
    """
    if not len(costs):
        nothing = torch.zeros(0, dtype=torch.int64, device=costs.device)
        return nothing, nothing
    owner = costs.masked_fill(~claimed, torch.inf).min(dim=0).indices
    points = claimed.any(dim=0).nonzero()[:, 0]
    return points, owner[points]


def centrality(distances: Tensor) -> Tensor:
    """Return FCOS's formula [...] in [0, 1] of (left, top, right, bottom) [..., 4].

    The root of the ratios of the smaller to the larger distance of both axes; 0 where a
    distance is not positive.
    """
    left, top, right, bottom = distances.clamp(min=0).unbind(-1)
    ratios = [
        torch.minimum(a, b) / torch.maximum(a, b).clamp(min=1e-6)
        for a, b in ((left, right), (top, bottom))
    ]
    return (ratios[0] * ratios[1]).sqrt()


def box_distances(points: Points, boxes: Tensor) -> Tensor:
    """Return left, top, right and bottom [n, P, 4] to the sides of boxes [n, 4], in pixels."""
    middles = points.places.to(boxes.dtype) + 0.5
    return torch.cat((middles - boxes[:, None, :2], boxes[:, None, 2:] - middles), dim=-1)


def border_distances(points: Points, masks: Tensor) -> Tensor:
    """Return left, top, right and bottom [n, P, 4] to the border of masks [n, H, W].

    To the nearest pixel of the row, or column, that is not of the mask; 0 outside of it.
    """
    ways = [(-1, False), (-2, False), (-1, True), (-2, True)]
    read = [points.read(_to_border(masks, axis, back=back)) for axis, back in ways]
    visible = points.inside((masks.shape[-2], masks.shape[-1]))
    return torch.stack(read, dim=-1) * visible[:, None]


def box_areas(boxes: Tensor) -> Tensor:
    """Return the areas [n] of boxes [n, 4] in pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _to_border(masks: Tensor, axis: int, *, back: bool) -> Tensor:
    """Return how far the mask goes on before each pixel [n, H, W], behind it with ``back``."""
    if back:
        return _to_border(masks.flip(axis), axis, back=False).flip(axis)
    length = masks.shape[axis]
    index = torch.arange(length, dtype=torch.float32, device=masks.device)
    index = index.view(-1, *[1] * (-1 - axis)).expand(masks.shape)
    last_outside = index.masked_fill(masks, -1.0).cummax(dim=axis).values
    return (index - last_outside - 0.5) * masks


def _cells(masks: Tensor, stride: int, shape: tuple[int, int]) -> Tensor:
    """Return bool [n, rows, columns]: cells of which masks [n, H, W] cover any pixel."""
    height, width = shape[0] * stride, shape[1] * stride
    padded = functional.pad(masks, (0, width - masks.shape[-1], 0, height - masks.shape[-2]))
    return padded.view(len(masks), shape[0], stride, shape[1], stride).amax(dim=(2, 4))


def _in_reach(points: Points, sides: Tensor) -> Tensor:
    """Return bool [n, P]: the point lies in the box, and the box has the size of its level."""
    largest, strides = sides.amax(dim=-1), points.strides
    low = torch.where(strides == strides.min(), 0, strides * REACH // 2)
    high = torch.where(strides == strides.max(), torch.inf, (strides * REACH).float())
    return (sides.amin(dim=-1) > 0) & (largest > low) & (largest <= high)


def _middles(stride: int, shape: tuple[int, int], device: torch.device) -> Tensor:
    rows = torch.arange(shape[0], device=device) * stride + stride // 2
    columns = torch.arange(shape[1], device=device) * stride + stride // 2
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), dim=-1)
