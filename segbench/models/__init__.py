"""Architectures, one file per family; ``segbench.models.registry`` lists and builds them.

A model file of your own imports all that it needs of segbench from here: ``register_model``, the
base of its task, and what ``predict`` returns. Importing this package imports no torch; asking
it for a base does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from segbench.core.types import Instances, PanopticMap, Prediction, Segment
from segbench.models.registry import register_model

if TYPE_CHECKING:
    from segbench.models.bases.detection import TwoStageDetector
    from segbench.models.bases.panoptic import MergedPrediction, PanopticModel, PanopticParts
    from segbench.models.bases.semantic import SemanticModel

__all__ = [
    "Instances",
    "MergedPrediction",
    "PanopticMap",
    "PanopticModel",
    "PanopticParts",
    "Prediction",
    "Segment",
    "SemanticModel",
    "TwoStageDetector",
    "register_model",
]
_BASES = {
    "MergedPrediction": "panoptic",
    "PanopticModel": "panoptic",
    "PanopticParts": "panoptic",
    "SemanticModel": "semantic",
    "TwoStageDetector": "detection",
}
"""Class -> its module in ``segbench.models.bases``."""


def __getattr__(name: str) -> Any:
    if name in _BASES:
        return getattr(importlib.import_module(f"segbench.models.bases.{_BASES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
