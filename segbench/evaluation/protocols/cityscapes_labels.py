"""Cityscapes' label table: label ids, the 19 evaluated classes, their 7 categories."""

from __future__ import annotations

from segbench.datasets.classes.cityscapes import CLASSES
from segbench.evaluation.protocols.label_codes import LabelCode

MAX_LABEL_ID = 33
_EVALUATED = tuple((c.id, c.name, c.supercategory, c.isthing) for c in CLASSES)
"""Label id, name, category and "has instances" of each train id."""
_IGNORED: tuple[tuple[int, str, str], ...] = (
    (0, "unlabeled", "void"),
    (1, "ego vehicle", "void"),
    (2, "rectification border", "void"),
    (3, "out of roi", "void"),
    (4, "static", "void"),
    (5, "dynamic", "void"),
    (6, "ground", "void"),
    (9, "parking", "flat"),
    (10, "rail track", "flat"),
    (14, "guard rail", "construction"),
    (15, "bridge", "construction"),
    (16, "tunnel", "construction"),
    (18, "polegroup", "object"),
    (29, "caravan", "vehicle"),
    (30, "trailer", "vehicle"),
)
"""Label id, name and category of the labels that are not evaluated."""

LABEL_IDS = tuple(row[0] for row in _EVALUATED)
CLASS_NAMES = tuple(row[1] for row in _EVALUATED)
THINGS = tuple(train_id for train_id, row in enumerate(_EVALUATED) if row[3])
THING_IDS = tuple(row[0] for row in _EVALUATED if row[3])
"""Label ids of the evaluated classes that have instances."""
THING_NAMES = tuple(row[1] for row in _EVALUATED if row[3])
CATEGORIES = tuple(
    (name, tuple(i for i, row in enumerate(_EVALUATED) if row[2] == name))
    for name in dict.fromkeys(row[2] for row in _EVALUATED)
)
IGNORED_IDS = tuple(row[0] for row in _IGNORED)
_ALL_LABELS = sorted((*((row[0], row[1], row[2]) for row in _EVALUATED), *_IGNORED))
LABEL_NAMES = tuple(name for _, name, _ in _ALL_LABELS)
"""Name of each label id, evaluated or not."""
LABEL_CATEGORIES = tuple(category for _, _, category in _ALL_LABELS)
"""Category of each label id; only labels of the category ``void`` have no evaluated relative."""

LABELS = LabelCode(
    "cityscapes-label-ids",
    "label ids 0 to 33 (not train ids), of which 19 are evaluated; the others are void",
    ids=LABEL_IDS,
    void_truth=IGNORED_IDS,
    void_prediction=IGNORED_IDS,
)
