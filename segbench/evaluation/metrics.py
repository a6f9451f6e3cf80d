"""The table of metrics: key, label, meaning and direction of every score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segbench.core.types import IntArray, Task
from segbench.evaluation.ratios import Evaluate

TASK_TITLES: Mapping[str, str] = {
    "semantic": "Semantic segmentation",
    "instance": "Instance segmentation",
    "panoptic": "Panoptic segmentation",
}
MISSING = "n/a"


@dataclass(frozen=True)
class Metric:
    """One column.

    ``key`` is the name in ``scores`` or ``profile``; ``scale`` multiplies the stored value
    before it is shown with ``decimals``; ``absent`` says what a missing value means.
    ``protocol`` names that of a column joined from another board.

    A score that is computed nowhere else brings its ``statistic``: counts, the column of each
    image and the protocol to the ground truth [N, C] and a function of weights [R, N] to scores
    [R] (see ``semantic.resampled.of_class_totals``). Records, columns, the table, intervals and
    tie groups follow from the row.
    """

    key: str
    label: str
    meaning: str
    group: str = "Scores"
    scale: float = 100.0
    decimals: int = 1
    higher_is_better: bool = True
    absent: str = "no class of this kind in the truth, so there is nothing to average"
    protocol: str = ""
    statistic: Callable[[Any, IntArray, Any], tuple[IntArray, Evaluate]] | None = None

    def text(self, value: float | None) -> str:
        """Return the value as shown; None and non-finite values become ``n/a``."""
        if value is None or not math.isfinite(value):
            return MISSING
        return f"{self.scale * value:,.{self.decimals}f}"


BOUNDARIES = "Boundaries"
"""Group of the scores that ``--boundary`` adds; `segbench protocols ID` gives their rule."""


def _three(suffix: str, group: str, what: str) -> tuple[Metric, ...]:
    return (
        Metric(f"pq{suffix}", "PQ", f"panoptic quality, {what}: SQ x RQ per class", group),
        Metric(f"sq{suffix}", "SQ", f"segmentation quality, {what}: mean IoU of matches", group),
        Metric(f"rq{suffix}", "RQ", f"recognition quality, {what}: F1 of segments", group),
    )


def _boundary_three(what: str) -> tuple[Metric, ...]:
    smaller = "with the smaller of mask and boundary IoU"
    return (
        Metric("boundary_pq", "PQ", f"Boundary PQ, {what}: PQ {smaller}", BOUNDARIES),
        Metric("boundary_sq", "SQ", f"Boundary SQ, {what}: SQ {smaller}", BOUNDARIES),
        Metric("boundary_rq", "RQ", f"Boundary RQ, {what}: RQ {smaller}", BOUNDARIES),
    )


SCORES: Mapping[str, tuple[Metric, ...]] = {
    "semantic": (
        Metric("miou", "mIoU", "mean intersection over union of the classes"),
        Metric("mean_dice", "Dice", "mean Dice coefficient (F1) of the classes"),
        Metric("pixel_accuracy", "Pixel acc.", "share of labelled pixels that are right"),
        Metric("mean_accuracy", "Mean acc.", "mean recall of the classes"),
        Metric("fwiou", "FWIoU", "IoU weighted by how frequent each class is"),
        Metric("boundary_miou", "mIoU", "mIoU of pixels near the class borders", BOUNDARIES),
        Metric("boundary_f", "F", "F1 of class contours within 0.75 % of the diagonal", BOUNDARIES),
    ),
    "instance": (
        Metric("ap", "AP", "mask average precision over IoU 0.50 to 0.95", "Masks"),
        Metric("ap50", "AP50", "mask average precision at IoU 0.50", "Masks"),
        Metric("ap75", "AP75", "mask average precision at IoU 0.75", "Masks"),
        Metric("ap_small", "AP S", "mask AP, objects below 32 x 32 px", "By size"),
        Metric("ap_medium", "AP M", "mask AP, objects of 32 x 32 to 96 x 96 px", "By size"),
        Metric("ap_large", "AP L", "mask AP, objects above 96 x 96 px", "By size"),
        Metric("box_ap", "AP", "box average precision over IoU 0.50 to 0.95", "Boxes"),
        Metric("box_ap50", "AP50", "box average precision at IoU 0.50", "Boxes"),
        Metric("box_ap75", "AP75", "box average precision at IoU 0.75", "Boxes"),
        Metric("ar_100", "AR100", "mask average recall with 100 detections an image", "Recall"),
        Metric("boundary_ap", "AP", "AP by the smaller of mask and boundary IoU", BOUNDARIES),
        Metric("boundary_ap50", "AP50", "Boundary AP at IoU 0.50", BOUNDARIES),
        Metric("boundary_ap75", "AP75", "Boundary AP at IoU 0.75", BOUNDARIES),
    ),
    "panoptic": (
        *_three("", "All classes", "all classes"),
        *_three("_things", "Things", "things"),
        *_three("_stuff", "Stuff", "stuff"),
        *_boundary_three("all classes"),
    ),
}
PER_CLASS: Mapping[str, tuple[Metric, ...]] = {
    "semantic": (
        Metric("iou", "IoU", "intersection over union"),
        Metric("dice", "Dice", "Dice coefficient (F1)"),
        Metric("accuracy", "Accuracy", "recall: share of this class's pixels found"),
        Metric("boundary_iou", "Boundary IoU", "IoU of pixels near the border", BOUNDARIES),
        Metric("boundary_f", "Boundary F", "F1 of contours", BOUNDARIES),
    ),
    "instance": (
        Metric("ap", "AP", "average precision over IoU 0.50 to 0.95"),
        Metric("ap50", "AP50", "average precision at IoU 0.50"),
        Metric("ap75", "AP75", "average precision at IoU 0.75"),
        Metric("ap_small", "AP S", "AP, objects below 32 x 32 px"),
        Metric("ap_medium", "AP M", "AP, objects of 32 x 32 to 96 x 96 px"),
        Metric("ap_large", "AP L", "AP, objects above 96 x 96 px"),
        Metric("ar_100", "AR100", "average recall with 100 detections an image"),
        Metric("boundary_ap", "Boundary AP", "AP by the smaller of two IoUs", BOUNDARIES),
    ),
    "panoptic": (*_three("", "Scores", "this class"), *_boundary_three("this class")),
}
IMAGE_SCORES: Mapping[str, Metric] = {
    "semantic": Metric("miou", "mIoU", "mean IoU of the classes in the image"),
    "instance": Metric("f1", "F1", "F1 of masks at IoU 0.50, scores of at least 0.5"),
    "panoptic": Metric("pq", "PQ", "panoptic quality of the image"),
}
"""What orders the images of a gallery."""


def primary(task: str) -> Metric:
    """Return the metric that ranks a task."""
    return SCORES[task][0]


def metrics_of(task: Task | str) -> tuple[Metric, ...]:
    """Return the score columns of a task, primary metric first."""
    return SCORES[task]
