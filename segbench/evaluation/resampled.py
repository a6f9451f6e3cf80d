"""Scores of resampled images: every image has a weight, how often it was drawn.

N images, R resamples (rows of weights), C classes. A score of a resample needs only sums over
images, so R resamples are one product of the weights [R, N] with per-image sums [N, C].
Weights of one give the score of ``segbench.evaluation.scores.score_parts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.types import ImageId, IntArray
from segbench.evaluation import boundary_scores
from segbench.evaluation.kinds import Counts, kind_of, main_part
from segbench.evaluation.metrics import SCORES, metrics_of
from segbench.evaluation.protocol import Protocol
from segbench.evaluation.ratios import Evaluate

HEADLINE: Mapping[str, str] = {task: rows[0].key for task, rows in SCORES.items()}
"""The score that stands for a task: the first of its rows."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """One score as a function of image weights.

    ``image_ids`` [N]: ascending; column i of the weights is image i. ``truth`` int64 [N, C]:
    what the ground truth holds of each class, the same for every prediction of it. ``evaluate``:
    weights float64 [R, N] to values [R], NaN where the score has no value.
    """

    metric: str
    image_ids: tuple[ImageId, ...]
    truth: IntArray
    evaluate: Evaluate

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
    return parts[main_part(parts)], metric


def _sort_key(image_id: ImageId) -> tuple[bool, int, str]:
    if isinstance(image_id, str):
        return True, 0, image_id
    return False, image_id, ""


def _evaluator(
    counts: Counts, place: IntArray, protocol: Protocol, metric: str
) -> tuple[IntArray, Evaluate]:
    """Return the truth [N, C] and the score of weights; ``place`` is the column of each image."""
    kind = kind_of(counts)
    if protocol.task != kind.task:
        raise ConfigError(
            f"protocol '{protocol.id}' scores {protocol.task}, the counts are {kind.task}"
        )
    own = {row.key: row.statistic for row in metrics_of(kind.task) if row.statistic}
    if metric in own:
        return own[metric](counts, place, protocol)
    known = {**kind.metrics(counts), **dict.fromkeys(own, False)}
    key, index = _parse(metric, known, kind.num_classes(counts, protocol))
    return kind.evaluator(counts, place, protocol, key=key, index=index)


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
