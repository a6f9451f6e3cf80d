"""The shape of a protocol: which choices turn counts into scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from segbench.core.types import Task
from segbench.evaluation.protocols.boundary_rules import BOUNDARY_RULES
from segbench.evaluation.protocols.label_codes import TRAIN_IDS, LabelCode

VoidTruth = Literal["ignored", "false_positive"]
VoidPrediction = Literal["miss", "ignored", "refused"]
AbsentClass = Literal["excluded", "zero", "one", "truth_only", "undefined"]
Averaging = Literal["pooled", "per_image"]
Overlaps = Literal["coco", "cityscapes"]


@dataclass(frozen=True)
class Protocol:
    """A named way to turn counts into scores; all fields from ``void_truth`` on are semantic.

    A definition never changes under its id: a changed one gets the next ``version``, and the
    old one stays reachable as ``<id>.v<version>``.
    """

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
    """Labelled pixels predicted void (or outside the label set) are misses, count nowhere, or
    are an error."""
    absent_class: AbsentClass = "excluded"
    """IoU of a class without truth and prediction: no value, 0 or 1; ``truth_only`` gives no
    value to every class without truth, even where it is predicted; ``undefined`` is no value
    that takes the mean with it."""
    version: int = 1
    averaging: Averaging = "pooled"
    """Ratios of sums over all images, or the mean of the ratios of each image and class."""
    instance_weighted: bool = False
    """Cityscapes: also gives iIoU, where the ground truth says what its instances are."""
    void_class: bool = False
    """Void is one more class, the last, and counts like the others."""
    official_score: bool = False
    """Also gives ``official_score``, the mean of pixel accuracy and mIoU."""
    categories: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Groups of train ids by name that are scored as if they were one class each."""
    category_ids: tuple[int, ...] = ()
    """Panoptic: category ids the ground truth must have; empty takes any."""
    overlaps: Overlaps = "coco"
    """Instance: whose rule of matching and of the precision-recall curve."""
    class_names: tuple[str, ...] = ()
    labels: LabelCode = TRAIN_IDS
    """What the numbers in label-map PNGs mean."""
    comparison: bool = False
    """A rule of another tool, there to compare with; not the rule of a data set."""

    @property
    def versioned_id(self) -> str:
        """Id with version, as in ``ade20k-150.v1``."""
        return f"{self.id}.v{self.version}"

    @property
    def evaluator(self) -> str:
        """What counts under it: the task, or Cityscapes' own rule of instances."""
        return "cityscapes_instance" if self.overlaps == "cityscapes" else self.task

    @property
    def boundary_rule(self) -> str:
        """What ``--boundary`` adds, in plain words; empty where it adds nothing."""
        return "" if self.overlaps == "cityscapes" else BOUNDARY_RULES[self.task]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain JSON types."""
        named = {"versioned_id": self.versioned_id, "boundary_rule": self.boundary_rule}
        return {**asdict(self), **named}
