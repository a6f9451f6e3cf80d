"""Mapillary Vistas 2.0: both configuration files, label maps of both versions."""

from pathlib import Path

from tests.datasets.miniatures.mapillary_v12 import config
from tests.datasets.miniatures.scenes import save, save_palette, scene


def build(folder: Path) -> None:
    """Write the archive: 3 images of training, 2 of validation; 123 is unlabeled."""
    top = folder / "mapillary-vistas-dataset_public_v2.0.zip"
    for first, (split, count) in {0: ("training", 3), 10: ("validation", 2)}.items():
        for number in range(count):
            made = scene(
                first + number, 48, 64, things=(30, 106, 106), stuff=(21, 27, 122), void=123
            )
            stem = f"{split[0]}Vistas_{number:04d}-y"
            save(top / split / "images" / f"{stem}.jpg", made.image, quality=95)
            save_palette(top / split / "v2.0" / "labels" / f"{stem}.png", made.labels)
            save_palette(top / split / "v1.2" / "labels" / f"{stem}.png", made.labels % 66)
    for version in ("v1.2", "v2.0"):
        (top / f"config_{version}.json").write_text(config(version))
