"""The result files of cityscapesScripts, key by key, for tools that read them.

Both are JSON with sorted keys, four blanks of indentation and ``NaN`` where there is no value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.files import write_text
from segbench.core.types import IntArray
from segbench.evaluation.protocols.cityscapes_labels import (
    IGNORED_IDS,
    LABEL_CATEGORIES,
    LABEL_IDS,
    LABEL_NAMES,
)
from segbench.evaluation.semantic.instance_weighted import KEYS, LabelCounts, instance_iou

PIXEL_FILE = "resultPixelLevelSemanticLabeling.json"
INSTANCE_FILE = "resultInstanceLevelSemanticLabeling.json"
_NAN = float("nan")
_CATEGORIES = tuple(dict.fromkeys(LABEL_CATEGORIES))


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as the official tool does, atomically."""
    write_text(path, json.dumps(results, sort_keys=True, indent=4))


def pixel_results(counts: LabelCounts) -> dict[str, Any]:
    """Return the official results of the pixel-level task.

    Without instances in the truth, where the official tool stops, the instance-weighted scores
    are NaN.
    """
    matrix = counts.confusion
    total = int(matrix.sum())
    classes = {name: _class_iou(matrix, i) for i, name in enumerate(LABEL_NAMES)}
    categories = {name: _category_iou(matrix, name) for name in _CATEGORIES}
    inst_classes = {name: _weighted_iou(counts, i) for i, name in enumerate(LABEL_NAMES)}
    inst_categories = {name: _weighted_iou(counts, name) for name in _CATEGORIES}
    return {
        "confMatrix": matrix.tolist(),
        "priors": {
            name: int(matrix[i].sum()) / total if total else _NAN
            for i, name in enumerate(LABEL_NAMES)
        },
        "labels": {name: i for i, name in enumerate(LABEL_NAMES)},
        "classScores": classes,
        "classInstScores": inst_classes,
        "categoryScores": categories,
        "categoryInstScores": inst_categories,
        "averageScoreClasses": _average(classes),
        "averageScoreInstClasses": _average(inst_classes),
        "averageScoreCategories": _average(categories),
        "averageScoreInstCategories": _average(inst_categories),
    }


def _class_iou(matrix: IntArray, label_id: int) -> float:
    if label_id in IGNORED_IDS:
        return _NAN
    others = [other for other in LABEL_IDS if other != label_id]
    return _iou(matrix, [label_id], others)


def _category_iou(matrix: IntArray, name: str) -> float:
    members = [i for i in LABEL_IDS if LABEL_CATEGORIES[i] == name]
    others = [i for i in LABEL_IDS if LABEL_CATEGORIES[i] != name]
    return _iou(matrix, members, others) if members else _NAN


def _iou(matrix: IntArray, members: list[int], others: list[int]) -> float:
    hits = int(matrix[np.ix_(members, members)].sum())
    union = int(matrix[members].sum()) + int(matrix[np.ix_(others, members)].sum())
    return hits / union if union else _NAN


def _weighted_iou(counts: LabelCounts, key: int | str) -> float:
    found = instance_iou(counts, key) if counts.has_instances and key in KEYS else None
    return _NAN if found is None else found


def _average(values: Mapping[str, float]) -> float:
    known = [value for value in values.values() if not math.isnan(value)]
    # One by one, as the official loop adds; sum() rounds otherwise from Python 3.12 on.
    return float(np.cumsum(known)[-1]) / len(known) if known else _NAN
