"""The 19 evaluated classes of Cityscapes, as its label table states them.

Cordts et al., CVPR 2016; cityscapesScripts, ``helpers/labels.py``.
"""

from segbench.core.types import Category

_ROWS: tuple[tuple[int, str, str, bool, tuple[int, int, int]], ...] = (
    (7, "road", "flat", False, (128, 64, 128)),
    (8, "sidewalk", "flat", False, (244, 35, 232)),
    (11, "building", "construction", False, (70, 70, 70)),
    (12, "wall", "construction", False, (102, 102, 156)),
    (13, "fence", "construction", False, (190, 153, 153)),
    (17, "pole", "object", False, (153, 153, 153)),
    (19, "traffic light", "object", False, (250, 170, 30)),
    (20, "traffic sign", "object", False, (220, 220, 0)),
    (21, "vegetation", "nature", False, (107, 142, 35)),
    (22, "terrain", "nature", False, (152, 251, 152)),
    (23, "sky", "sky", False, (70, 130, 180)),
    (24, "person", "human", True, (220, 20, 60)),
    (25, "rider", "human", True, (255, 0, 0)),
    (26, "car", "vehicle", True, (0, 0, 142)),
    (27, "truck", "vehicle", True, (0, 0, 70)),
    (28, "bus", "vehicle", True, (0, 60, 100)),
    (31, "train", "vehicle", True, (0, 80, 100)),
    (32, "motorcycle", "vehicle", True, (0, 0, 230)),
    (33, "bicycle", "vehicle", True, (119, 11, 32)),
)
"""Label id, name, category, "has instances" and colour of each train id."""

CLASSES = tuple(
    Category(label_id, name, isthing, color, supercategory)
    for label_id, name, supercategory, isthing, color in _ROWS
)
"""The classes in train-id order; category ids are label ids."""
