"""From scored masks to a panoptic map: each pixel to its likeliest mask.

Cheng, Schwing and Kirillov, "Per-Pixel Classification is Not All You Need for Semantic
Segmentation" (MaskFormer), NeurIPS 2021, section 3.4, as Mask2Former uses it. Axes: N masks, H
rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segbench.core.types import VOID, PanopticMap, Segment


@dataclass(frozen=True)
class ScoredMasks:
    """Masks of things and stuff.

    ``labels`` int64 [N] are panoptic indices, ``scores`` [N] and ``chances`` [N, H, W] in [0, 1].
    """

    labels: Tensor
    scores: Tensor
    chances: Tensor

    def __getitem__(self, chosen: Tensor) -> ScoredMasks:
        """Return some of the masks."""
        return ScoredMasks(self.labels[chosen], self.scores[chosen], self.chances[chosen])


def join(first: ScoredMasks, second: ScoredMasks) -> ScoredMasks:
    """Return the masks of both, those of the first before."""
    return ScoredMasks(
        torch.cat([first.labels, second.labels]),
        torch.cat([first.scores, second.scores]),
        torch.cat([first.chances, second.chances]),
    )


def merge_masks(
    masks: ScoredMasks,
    *,
    num_things: int,
    score_threshold: float = 0.8,
    overlap_threshold: float = 0.2,
) -> PanopticMap:
    """Give each pixel to the mask with the largest score x chance there.

    Masks scored no more than ``score_threshold`` take no part. A mask keeps those of its pixels
    where its chance is at least one half; it is left out when others have won more than
    ``overlap_threshold`` of its area (the authors state what must remain, 0.8). Stuff masks of
    one class are one segment.

    Returns:
        Segments numbered from 1 in the order of the masks; the rest is void.
    """
    kept = masks[masks.scores > score_threshold]
    ids = np.full(tuple(masks.chances.shape[1:]), VOID, dtype=np.int32)
    if not len(kept.labels):
        return PanopticMap(ids, ())
    winner = (kept.scores[:, None, None] * kept.chances).argmax(dim=0).cpu().numpy()
    inside = (kept.chances >= 0.5).cpu().numpy()
    segment_of: dict[int, int] = {}
    segments: list[Segment] = []
    for number, (label, score) in enumerate(
        zip(kept.labels.tolist(), kept.scores.tolist(), strict=True)
    ):
        won, area = winner == number, int(inside[number].sum())
        shown = won & inside[number]
        if not shown.any() or won.sum() < (1 - overlap_threshold) * area:
            continue
        isthing = label < num_things
        if not isthing and label in segment_of:
            ids[shown] = segment_of[label]
            continue
        segments.append(Segment(len(segments) + 1, label, isthing, 0, score=score))
        segment_of[label] = segments[-1].id
        ids[shown] = segments[-1].id
    return PanopticMap(ids, _with_areas(segments, ids))


def _with_areas(segments: list[Segment], ids: np.ndarray) -> tuple[Segment, ...]:
    areas = np.bincount(ids.ravel(), minlength=len(segments) + 1)
    return tuple(
        Segment(s.id, s.label, s.isthing, int(areas[s.id]), score=s.score if s.isthing else None)
        for s in segments
    )
