"""ADE20K's 2016 archive: photographs and label maps 0 to 150."""

from pathlib import Path

from tests.datasets.miniatures.scenes import save, scene

THINGS, STUFF = (13, 21, 13), (1, 3, 0, 8)
TOP = "ADEChallengeData2016"


def scenes():
    """Yield split folder, stem and scene: 4 training images, 2 of validation."""
    for folder, word, count in (("training", "train", 4), ("validation", "val", 2)):
        for number in range(1, count + 1):
            made = scene(number + 10 * count, 40, 64, things=THINGS, stuff=STUFF, void=0)
            yield folder, f"ADE_{word}_{number:08d}", made


def build(folder: Path) -> None:
    """Write the one archive."""
    top = folder / f"{TOP}.zip" / TOP
    for split, stem, made in scenes():
        save(top / "images" / split / f"{stem}.jpg", made.image, quality=95)
        save(top / "annotations" / split / f"{stem}.png", made.labels)
    (top / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
