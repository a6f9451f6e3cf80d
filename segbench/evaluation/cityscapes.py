"""Cityscapes' label table: label ids, the 19 evaluated classes, their 7 categories."""

from __future__ import annotations

from segbench.evaluation.label_codes import LabelCode

MAX_LABEL_ID = 33
_EVALUATED: tuple[tuple[int, str, str, bool], ...] = (
    (7, "road", "flat", False),
    (8, "sidewalk", "flat", False),
    (11, "building", "construction", False),
    (12, "wall", "construction", False),
    (13, "fence", "construction", False),
    (17, "pole", "object", False),
    (19, "traffic light", "object", False),
    (20, "traffic sign", "object", False),
    (21, "vegetation", "nature", False),
    (22, "terrain", "nature", False),
    (23, "sky", "sky", False),
    (24, "person", "human", True),
    (25, "rider", "human", True),
    (26, "car", "vehicle", True),
    (27, "truck", "vehicle", True),
    (28, "bus", "vehicle", True),
    (31, "train", "vehicle", True),
    (32, "motorcycle", "vehicle", True),
    (33, "bicycle", "vehicle", True),
)
"""Label id, name, category and "has instances" of each train id."""

LABEL_IDS = tuple(row[0] for row in _EVALUATED)
CLASS_NAMES = tuple(row[1] for row in _EVALUATED)
THINGS = tuple(train_id for train_id, row in enumerate(_EVALUATED) if row[3])
CATEGORIES = tuple(
    (name, tuple(i for i, row in enumerate(_EVALUATED) if row[2] == name))
    for name in dict.fromkeys(row[2] for row in _EVALUATED)
)
_NOT_EVALUATED = tuple(i for i in range(MAX_LABEL_ID + 1) if i not in LABEL_IDS)

LABELS = LabelCode(
    "cityscapes-label-ids",
    "label ids 0 to 33 (not train ids), of which 19 are evaluated; the others are void",
    ids=LABEL_IDS,
    void_truth=_NOT_EVALUATED,
    void_prediction=_NOT_EVALUATED,
)
