"""MSeg's 194 classes, and which classes of five other data sets each of them takes in.

``mseg.csv`` states the facts of the published table of merged and split classes, for labels as
their publishers have them (not corrected by hand, which MSeg did for some masks). Lambert, Liu,
Sener, Hays, Koltun, CVPR 2020.
"""

import csv
from collections.abc import Mapping
from importlib import resources

from segbench.core.types import Category
from segbench.datasets.classes.colors import spread_color

PARTS = ("coco2017", "ade20k", "mapillary_v12", "cityscapes", "sunrgbd")
"""Data sets of the table, by their names here."""


def _rows() -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath("mseg.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


_ROWS = _rows()
CATEGORIES = tuple(
    Category(number + 1, row["class"], False, spread_color(number), row["group"])
    for number, row in enumerate(_ROWS)
)


def train_ids(part: str) -> Mapping[str, int]:
    """Return the MSeg train id of each class name of a data set; others are not in MSeg."""
    return {
        name: train_id
        for train_id, row in enumerate(_ROWS)
        for name in (cell.strip() for cell in row[part].split(";"))
        if name
    }
