"""COCO-Stuff's three archives; label maps hold category numbers less one."""

from pathlib import Path

from tests.datasets.miniatures.scenes import save, scene


def scenes():
    """Yield split, stem and scene: person 0, toothbrush 89; banner 91, wood 181, none 255."""
    for split, numbers in {"train": range(1, 4), "val": range(9, 11)}.items():
        for number in numbers:
            made = scene(number, 40, 56, things=(0, 89), stuff=(91, 181, 255), void=255)
            yield split, f"{number:012d}", made


def build(folder: Path) -> None:
    """Write the archives of photographs and the one of label maps."""
    for split, stem, made in scenes():
        photograph = folder / f"{split}2017.zip" / f"{split}2017" / f"{stem}.jpg"
        save(photograph, made.image, quality=95)
        maps = folder / "stuffthingmaps_trainval2017.zip" / f"{split}2017"
        save(maps / f"{stem}.png", made.labels)
