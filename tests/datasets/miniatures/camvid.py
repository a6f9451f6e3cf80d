"""CamVid in SegNet's form: 3 + 2 + 2 images of 40x30; every class and void occur in train."""

from pathlib import Path

from tests.datasets.miniatures.scenes import save, scene

CLASSES, VOID = tuple(range(11)), 11
COUNTS = {"train": 3, "val": 2, "test": 2}


def build(folder: Path) -> None:
    build_raw(folder / "raw")


def build_raw(folder: Path) -> None:
    for split, count in COUNTS.items():
        for number in range(count):
            stem = f"0001TP_{split}_{number:03d}"
            seed = 10 * list(COUNTS).index(split) + number
            made = scene(seed, 30, 40, things=(8, 9, 10), stuff=CLASSES[:8], void=VOID)
            save(folder / split / f"{stem}.png", made.image)
            save(folder / f"{split}annot" / f"{stem}.png", made.labels)
