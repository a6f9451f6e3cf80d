"""Protocols: what a score means, named, so that two numbers are compared only when they may be.

A protocol is data. The counts of an image are the same under all of them; a protocol only
says how the counts become scores. Change a definition, change its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segbench.errors import ConfigError, did_you_mean
from segbench.types import Task

VoidTruth = Literal["ignored", "false_positive"]
VoidPrediction = Literal["miss", "ignored"]
AbsentClass = Literal["excluded", "zero", "one", "truth_only"]


@dataclass(frozen=True)
class Protocol:
    """A named way to turn counts into scores; the last three fields are semantic rules."""

    id: str
    task: Task
    title: str
    rule: str
    """The rule in plain words, for readers of a leaderboard."""
    source: str
    """Whose rule it is: the tool or paper that defines it."""
    num_classes: int | None = None
    """Classes the label set must have; None takes any number."""
    void_truth: VoidTruth = "ignored"
    """Predictions on void truth count nowhere, or are false positives of their class."""
    void_prediction: VoidPrediction = "miss"
    """Labelled pixels predicted void (or outside the label set) are misses or count nowhere."""
    absent_class: AbsentClass = "excluded"
    """IoU of a class without truth and prediction: no value, 0 or 1; ``truth_only`` gives no
    value to every class without truth, even where it is predicted."""


_POOLED_RULE = (
    "One confusion matrix over all pixels of all images. Pixels with void truth count nowhere; "
    "labelled pixels predicted void or outside the label set are misses. A class with neither "
    "truth nor prediction has no value and is left out of the mean; a class that is predicted "
    "but has no truth counts 0."
)
_PANOPTIC_RULE = (
    "A predicted and a true segment of one category match when their IoU, without void pixels, "
    "is above 0.5. Unmatched true segments are misses, except crowds; unmatched predictions are "
    "false, unless more than half of them lies on void or on crowds of their category. PQ, SQ "
    "and RQ are means over the categories with any segment, true or predicted."
)
_INSTANCE_RULE = (
    "Average precision over IoU thresholds 0.50 to 0.95 and 101 recall points, at most 100 "
    "detections per image and category, crowds ignored, mean over the categories with truth; "
    "masks, and boxes under keys that start with box_."
)


def _pooled(protocol_id: str, title: str, num_classes: int | None) -> Protocol:
    source = "Cityscapes-style pooled IoU, as mmsegmentation's IoUMetric counts absent classes"
    return Protocol(protocol_id, "semantic", title, _POOLED_RULE, source, num_classes)


_PROTOCOLS: tuple[Protocol, ...] = (
    _pooled("semantic-pooled", "Pooled mIoU", None),
    _pooled("camvid-11-void-ignored", "CamVid, 11 classes, void ignored", 11),
    _pooled("digit-scenes-14", "Digit scenes, 10 digits and 4 textures", 14),
    _pooled("pennfudan-2", "Penn-Fudan, pedestrian and background", 2),
    Protocol(
        "coco-instances",
        "instance",
        "COCO AP, 12 numbers",
        _INSTANCE_RULE,
        "pycocotools COCOeval, default parameters",
    ),
    Protocol(
        "coco-panoptic",
        "panoptic",
        "COCO panoptic quality",
        _PANOPTIC_RULE,
        "Kirillov et al., Panoptic Segmentation, CVPR 2019; panopticapi's single-process sums",
    ),
)
_BY_ID = {protocol.id: protocol for protocol in _PROTOCOLS}


def protocols() -> tuple[Protocol, ...]:
    """Return every protocol, semantic ones first."""
    return _PROTOCOLS


def get_protocol(protocol_id: str, *, task: Task | None = None) -> Protocol:
    """Return a protocol by id.

    Args:
        protocol_id: A known id.
        task: The task it must score; None takes any.

    Raises:
        ConfigError: The id is unknown, or the protocol scores another task.
    """
    known = [p.id for p in _PROTOCOLS if task in (None, p.task)]
    fix = f"{task or 'all'} protocols are {', '.join(known)}"
    if protocol_id not in _BY_ID:
        raise ConfigError(
            f"unknown protocol '{protocol_id}'.{did_you_mean(protocol_id, known)}", fix=fix
        )
    protocol = _BY_ID[protocol_id]
    if task is not None and protocol.task != task:
        raise ConfigError(
            f"protocol '{protocol_id}' scores the {protocol.task} task, not {task}", fix=fix
        )
    return protocol
