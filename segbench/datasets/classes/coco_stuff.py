"""The 171 classes of COCO-Stuff: the 80 things of COCO and 91 classes of stuff.

Caesar, Uijlings, Ferrari, CVPR 2018. Stuff numbers follow on from the things', 92 to 182.
Colours of classes that COCO panoptic has too are those; the others are made here.
"""

from segbench.core.types import Category
from segbench.datasets.classes.coco import CATEGORIES as PANOPTIC
from segbench.datasets.classes.colors import spread_color

FIRST_STUFF = 92
_STUFF = (
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage",
    "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds",
    "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence",
    "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog",
    "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill",
    "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud",
    "napkin", "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform",
    "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad",
    "sand", "sea", "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone",
    "straw", "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
"""Names of the labels 92 to 182."""


def _stuff(number: int, name: str) -> Category:
    known = next((c for c in PANOPTIC if (c.id, c.name) == (number, name)), None)
    color = known.color if known else spread_color(number - FIRST_STUFF)
    return Category(number, name, False, color, known.supercategory if known else "stuff")


CATEGORIES = (
    *(category for category in PANOPTIC if category.isthing),
    *(_stuff(number, name) for number, name in enumerate(_STUFF, start=FIRST_STUFF)),
)
