"""The kinds of counts: how each is read, scored, and scored of resampled images.

A kind of counts is one row of ``KINDS``. A further score of counts that exist is one function
and one row of ``metrics.SCORES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segbench.core.types import ImageId, IntArray, Task
from segbench.datasets.classes.cityscapes import CLASSES
from segbench.evaluation import boundary_scores
from segbench.evaluation.cityscapes import average_precision as overlaps
from segbench.evaluation.cityscapes import resampled as cityscapes
from segbench.evaluation.instance import average_precision as instance
from segbench.evaluation.instance import resampled as ap
from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.panoptic import resampled as pq
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.ratios import Evaluate
from segbench.evaluation.semantic import instance_weighted as labels
from segbench.evaluation.semantic import resampled as iou
from segbench.evaluation.semantic import scores as semantic
from segbench.evaluation.semantic.counts import SemanticCounts

Counts = (
    SemanticCounts
    | panoptic.PanopticCounts
    | InstanceCounts
    | labels.LabelCounts
    | overlaps.OverlapCounts
)


@dataclass(frozen=True)
class Kind:
    """What can be done with counts of one class.

    Attributes:
        counts: Their class.
        task: What protocols must score.
        scores: Counts and protocol to scores, ``per_class`` among them.
        metrics: Counts to the metrics of resamples, each with whether a class follows.
        num_classes: Counts and protocol to the number of classes a metric can name.
        evaluator: Counts, column of each image, protocol, ``key`` and ``index`` to the ground
            truth of each image and class [N, C] and the score of weights.
        image_scores: Counts to one number an image; None where there is none.
    """

    counts: type[Any]
    task: Task
    scores: Callable[[Any, Protocol], dict[str, Any]]
    metrics: Callable[[Any], Mapping[str, bool]]
    num_classes: Callable[[Any, Protocol], int]
    evaluator: Callable[..., tuple[IntArray, Evaluate]]
    image_scores: Callable[[Any], dict[ImageId, float | None]] | None = None


def _semantic_metrics(counts: SemanticCounts) -> Mapping[str, bool]:
    return iou.METRICS if counts.boundary is None else {**iou.METRICS, **boundary_scores.METRICS}


def _semantic_evaluator(
    counts: SemanticCounts, place: IntArray, protocol: Protocol, *, key: str, index: int | None
) -> tuple[IntArray, Evaluate]:
    semantic.scores(counts, protocol)  # refuses what the protocol refuses
    of_boundary = key.startswith(boundary_scores.PREFIX)
    evaluator = boundary_scores.evaluator if of_boundary else iou.evaluator
    return evaluator(counts, place, protocol, key=key, index=index)


def _categories(counts: Any, _: Protocol) -> int:
    return len(counts.category_ids)


SEMANTIC = Kind(
    SemanticCounts,
    "semantic",
    semantic.scores,
    _semantic_metrics,
    lambda counts, protocol: counts.num_classes + protocol.void_class,
    _semantic_evaluator,
    lambda counts: {k: row["miou"] for k, row in semantic.image_scores(counts).items()},
)
PANOPTIC = Kind(
    panoptic.PanopticCounts,
    "panoptic",
    panoptic.scores,
    lambda _: pq.METRICS,
    _categories,
    lambda counts, place, _, **which: pq.evaluator(counts, place, **which),
    panoptic.image_scores,
)
INSTANCE = Kind(
    InstanceCounts,
    "instance",
    instance.scores,
    lambda _: ap.METRICS,
    _categories,
    lambda counts, place, _, **which: ap.evaluator(counts, place, **which),
    instance.image_scores,
)
LABELS = Kind(
    labels.LabelCounts,
    "semantic",
    lambda counts, _: labels.scores(counts),
    lambda _: cityscapes.LABEL_METRICS,
    lambda *_: len(CLASSES),
    lambda counts, place, _, **which: cityscapes.label_evaluator(counts, place, **which),
)
OVERLAPS = Kind(
    overlaps.OverlapCounts,
    "instance",
    overlaps.scores,
    lambda _: cityscapes.OVERLAP_METRICS,
    _categories,
    lambda counts, place, _, **which: cityscapes.overlap_evaluator(counts, place, **which),
    overlaps.image_scores,
)
KINDS: Mapping[str, Kind] = {
    "semantic": SEMANTIC,
    "panoptic": PANOPTIC,
    "segm": INSTANCE,
    "bbox": INSTANCE,
    "segm_overlaps": OVERLAPS,
    "semantic_labels": LABELS,
    "segm_boundary": INSTANCE,
}
"""Part of ``counts.npz`` -> its kind; the headline score is of the first part that is there."""
MAIN = ("semantic", "panoptic", "segm")
"""Parts that rows of ``metrics.SCORES`` with a function are of."""


def kind_of(counts: Counts) -> Kind:
    """Return the kind of counts."""
    return next(kind for kind in KINDS.values() if isinstance(counts, kind.counts))


def main_part(parts: Mapping[str, Counts]) -> str:
    """Return the part that the scores without a prefix are of."""
    return next(part for part in KINDS if part in parts)
