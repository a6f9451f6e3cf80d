"""CamVid's two original archives: frames, and flat colour labels of 32 classes."""

from pathlib import Path

import numpy as np

from tests.datasets.miniatures.scenes import save, scene

FRAMES = {
    "train": ("0001TP_006690", "0006R0_f00930", "0016E5_00390"),
    "val": ("0016E5_07959", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}
COLORS = ((128, 128, 128), (192, 0, 128), (192, 0, 64), (64, 192, 128), (128, 64, 64), (0, 0, 0))
"""Sky, archway, lane marking, parking block, other moving, void."""
EXPECTED = (0, 1, 3, 4, 8, 255)


def scenes():
    """Yield the name and the scene of every frame; codes are positions in ``COLORS``."""
    for number, stem in enumerate(stem for stems in FRAMES.values() for stem in stems):
        yield stem, scene(number, 36, 48, things=(4, 2), stuff=(0, 1, 3), void=5)


def build(folder: Path) -> None:
    """Write both archives."""
    for stem, made in scenes():
        frames = folder / "701_StillsRaw_full.zip" / "701_StillsRaw_full"
        save(frames / f"{stem}.png", made.image)
        save(folder / "LabeledApproved_full.zip" / f"{stem}_L.png", np.array(COLORS)[made.labels])
