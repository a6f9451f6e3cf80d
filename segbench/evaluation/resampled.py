"""Scores of resampled images: every image has a weight, how often it was drawn.

N images, R resamples (rows of weights), C classes. A score of a resample needs only sums over
images, so R resamples are one product of the weights [R, N] with per-image sums [N, C].
Weights of one give the score of ``segbench.evaluation.scores.score_parts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.types import FloatArray, ImageId, IntArray, Task
from segbench.datasets.classes.cityscapes import CLASSES
from segbench.evaluation import boundary_scores
from segbench.evaluation.cityscapes import resampled as _weighted_cityscapes
from segbench.evaluation.cityscapes.average_precision import OverlapCounts
from segbench.evaluation.counts import Counts
from segbench.evaluation.instance import resampled as _weighted_ap
from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.panoptic import resampled as _weighted_panoptic
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic import resampled as _weighted_semantic
from segbench.evaluation.semantic.instance_weighted import LabelCounts
from segbench.evaluation.semantic.scores import scores as semantic_scores

_PARTS = ("semantic", "panoptic", "segm", "bbox", "segm_overlaps")
HEADLINE: Mapping[Task, str] = {"semantic": "miou", "instance": "ap", "panoptic": "pq"}
"""The score that stands for a task."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """One score as a function of image weights.

    ``image_ids`` [N]: ascending; column i of the weights is image i. ``truth`` int64 [N, C]:
    what the truth holds of each class, the same for every prediction of it. ``evaluate``:
    weights float64 [R, N] to values [R], NaN where the score has no value.
    """

    metric: str
    image_ids: tuple[ImageId, ...]
    truth: IntArray
    evaluate: Callable[[FloatArray], FloatArray]

    @property
    def estimate(self) -> float:
        """The score of the images as they are; NaN without a value."""
        return float(self.evaluate(np.ones((1, len(self.image_ids))))[0])


def statistic(parts: Mapping[str, Counts], protocol: Protocol, metric: str) -> Statistic:
    """Return one score of stored counts as a function of image weights.

    Args:
        parts: What ``load_counts`` returns.
        protocol: How the counts become scores.
        metric: A key of the scores (``miou``, ``iiou``, ``pq_things``, ``box_ap50``), or of a
            class and its position, as in ``iou.3``, ``pq.0``, ``ap50.2``.

    Raises:
        ConfigError: The protocol is for other counts, or there is no such metric.
        DataError: The protocol refuses the counts.
    """
    counts, name = _part(parts, metric)
    order = sorted(range(len(counts.image_ids)), key=lambda i: _sort_key(counts.image_ids[i]))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    truth, evaluate = _evaluator(counts, place, protocol, name)
    return Statistic(metric, tuple(counts.image_ids[i] for i in order), truth, evaluate)


def _part(parts: Mapping[str, Counts], metric: str) -> tuple[Counts, str]:
    """Return the counts a metric is of, and its key there."""
    if metric.startswith(boundary_scores.PREFIX):
        return boundary_scores.part_of(parts, metric)
    if metric.startswith("box_") and "bbox" in parts:
        return parts["bbox"], metric.removeprefix("box_")
    if metric.partition(".")[0] in ("iiou", "category_iiou") and "semantic_labels" in parts:
        return parts["semantic_labels"], metric
    return next(parts[p] for p in _PARTS if p in parts), metric


def _sort_key(image_id: ImageId) -> tuple[bool, int, str]:
    if isinstance(image_id, str):
        return True, 0, image_id
    return False, image_id, ""


def _evaluator(
    counts: Counts, place: IntArray, protocol: Protocol, metric: str
) -> tuple[IntArray, Callable[[FloatArray], FloatArray]]:
    """Return the truth [N, C] and the score of weights; ``place`` is the column of each image."""
    if isinstance(counts, semantic.SemanticCounts):
        semantic_scores(counts, protocol)  # refuses what the protocol refuses
        known, num_classes = _weighted_semantic.METRICS, counts.num_classes + protocol.void_class
        if counts.boundary is not None:
            known = {**known, **boundary_scores.METRICS}
        key, index = _parse(metric, known, num_classes)
        if key.startswith(boundary_scores.PREFIX):
            return boundary_scores.evaluator(counts, place, protocol, key=key, index=index)
        return _weighted_semantic.evaluator(counts, place, protocol, key=key, index=index)
    if isinstance(counts, LabelCounts):
        _check_task(protocol, "semantic")
        key, index = _parse(metric, _weighted_cityscapes.LABEL_METRICS, len(CLASSES))
        return _weighted_cityscapes.label_evaluator(counts, place, key=key, index=index)
    if isinstance(counts, OverlapCounts):
        _check_task(protocol, "instance")
        key, index = _parse(metric, _weighted_cityscapes.OVERLAP_METRICS, len(counts.category_ids))
        return _weighted_cityscapes.overlap_evaluator(counts, place, key=key, index=index)
    _check_task(protocol, "instance" if isinstance(counts, InstanceCounts) else "panoptic")
    if isinstance(counts, InstanceCounts):
        key, index = _parse(metric, _weighted_ap.METRICS, len(counts.category_ids))
        return _weighted_ap.evaluator(counts, place, key=key, index=index)
    key, index = _parse(metric, _weighted_panoptic.METRICS, len(counts.category_ids))
    return _weighted_panoptic.evaluator(counts, place, key=key, index=index)


def _check_task(protocol: Protocol, task: Task) -> None:
    if protocol.task != task:
        raise ConfigError(f"protocol '{protocol.id}' scores {protocol.task}, the counts are {task}")


def _parse(metric: str, known: Mapping[str, bool], num_classes: int) -> tuple[str, int | None]:
    """Split ``iou.3`` into key and class; ``known`` says whether a key has a class."""
    key, dot, digits = metric.partition(".")
    wanted = f"{key}." if dot else key
    if wanted not in known:
        names = [name + "<class>" if has_class else name for name, has_class in known.items()]
        fix = f"metrics of these counts are {', '.join(names)}"
        raise ConfigError(f"no metric '{metric}'.{did_you_mean(wanted, known)}", fix=fix)
    if not dot:
        return key, None
    if not digits.isdecimal() or int(digits) >= num_classes:
        raise ConfigError(
            f"metric '{metric}': expected a class from 0 to {num_classes - 1}, found '{digits}'"
        )
    return key, int(digits)
