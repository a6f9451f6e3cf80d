"""ADE20K's 2016 archive and the instances of 2017: class in red, number of the object in green."""

from pathlib import Path

import numpy as np

from segbench.datasets.classes.ade20k import THING_LABELS
from tests.datasets.miniatures import ade20k
from tests.datasets.miniatures.scenes import save


def build(folder: Path) -> None:
    """Write both archives; label 8 is a bed without an object, a thing left void."""
    ade20k.build(folder)
    for split, stem, made in ade20k.scenes():
        classes = np.zeros(151, dtype=int)
        classes[list(THING_LABELS)] = np.arange(1, 101)
        red = classes[made.labels] * (made.instances > 0)
        colours = np.stack([red, made.instances, 0 * red], axis=-1)
        top = folder / "annotations_instance.tar" / "annotations_instance"
        save(top / split / f"{stem}.png", colours)
