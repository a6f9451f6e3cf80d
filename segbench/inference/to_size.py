"""Predictions of a resized image, brought back to the size of the image itself.

Axes: N instances, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from segbench.core.types import Instances, IntArray, PanopticMap, Prediction

Maps = TypeVar("Maps", bound=np.ndarray[tuple[int, ...], np.dtype[np.generic]])


def to_size(prediction: Prediction, size: tuple[int, int]) -> Prediction:
    """Return a prediction at (height, width): maps to the nearest pixel, boxes to scale.

    Objects and segments of which no pixel is left are left out.
    """
    semantic, instances, panoptic = prediction.semantic, prediction.instances, prediction.panoptic
    if semantic is not None and semantic.shape != size:
        semantic = nearest(semantic, size)
    if instances is not None and instances.masks.shape[1:] != size:
        instances = _instances(instances, size)
    if panoptic is not None and panoptic.ids.shape != size:
        panoptic = _panoptic(panoptic, size)
    return Prediction(semantic, instances, panoptic)


def nearest(maps: Maps, size: tuple[int, int]) -> Maps:
    """Return maps [..., H, W] at (height, width): each pixel is the one its centre falls on."""
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., rows[:, None], columns[None, :]]  # type: ignore[return-value]


def _instances(found: Instances, size: tuple[int, int]) -> Instances:
    height, width = found.masks.shape[1:]
    masks = nearest(found.masks, size)
    keep = masks.any(axis=(1, 2))
    scale = np.array([size[1] / width, size[0] / height] * 2, dtype=np.float32)
    return Instances(
        masks=masks[keep],
        labels=found.labels[keep],
        boxes=(found.boxes * scale)[keep].astype(np.float32),
        scores=None if found.scores is None else found.scores[keep],
        iscrowd=None if found.iscrowd is None else found.iscrowd[keep],
    )


def _panoptic(found: PanopticMap, size: tuple[int, int]) -> PanopticMap:
    ids: IntArray = nearest(found.ids, size)
    areas = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True))
    return PanopticMap(
        ids,
        tuple(replace(one, area=areas[one.id]) for one in found.segments if one.id in areas),
    )
