"""Pascal Context: VOC 2010's lists and photographs, label maps of 459 classes as .mat."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.datasets.miniatures.scenes import save, scene

VOC, CONTEXT = "VOCtrainval_03-May-2010.tar", "trainval.tar.gz"
STEMS = {
    "train": ("2008_000002", "2008_000003", "2008_000007", "2009_000001"),
    "val": ("2008_000008", "2010_000003"),
}
SIZES = ((40, 60), (52, 44))
NUMBERS = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23,
    "bird": 25, "boat": 31, "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46,
    "car": 59, "cat": 65, "ceiling": 68, "chair": 72, "cloth": 80, "computer": 85, "cow": 98,
    "cup": 104, "curtain": 105, "dog": 113, "door": 115, "fence": 144, "floor": 158,
    "flower": 159, "food": 162, "grass": 187, "ground": 189, "horse": 207, "keyboard": 220,
    "light": 232, "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295,
    "platform": 296, "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349,
    "sidewalk": 354, "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397,
    "track": 415, "train": 416, "tree": 420, "truck": 424, "tvmonitor": 427, "wall": 440,
    "water": 445, "window": 454, "wood": 458,
}  # fmt: skip
"""Numbers of the 59 classes in the published labels.txt."""
OTHER = (1, 81, 431, 459)
"""Labels that are none of the 59: accordion, clothes tree, unknown and the last one."""


def build(folder: Path) -> None:
    kit, context = folder / VOC / "VOCdevkit" / "VOC2010", folder / CONTEXT
    names = {number: name for name, number in NUMBERS.items()}
    _write(
        context / "labels.txt",
        [f"{n}: {names.get(n, f'other thing {n}')}" for n in range(1, 460)],
    )
    for split, stems in STEMS.items():
        _write(kit / "ImageSets" / "Main" / f"{split}.txt", stems)
    _write(kit / "ImageSets" / "Main" / "trainval.txt", sorted(sum(STEMS.values(), ())))
    codes = list(NUMBERS.values())
    for seed, stem in enumerate(sum(STEMS.values(), ())):
        stuff = (*codes[10 * seed : 10 * seed + 10], 0)
        made = scene(seed, *SIZES[seed % 2], things=(*OTHER, 284), stuff=stuff)
        save(kit / "JPEGImages" / f"{stem}.jpg", made.image, quality=95)
        (context / "trainval").mkdir(parents=True, exist_ok=True)
        savemat(
            context / "trainval" / f"{stem}.mat",
            {"LabelMap": made.labels.astype(np.uint16)},
            do_compression=True,
        )


def _write(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
