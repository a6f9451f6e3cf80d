"""Pascal VOC 2012 and SBD: 3 train, 2 val, 4 images of SBD of which one is VOC's train, one val."""

from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix

from tests.datasets.miniatures.scenes import save, save_palette, scene

VOC, SBD = "VOCtrainval_11-May-2012.tar", "benchmark.tgz"
TRAIN = ("2007_000032", "2007_000039", "2007_000063")
VAL = ("2007_000033", "2007_000042")
SBD_TRAIN = ("2008_000002", "2007_000032")
SBD_VAL = ("2008_000003", "2007_000033")
SIZES = ((40, 60), (52, 44))


def build(folder: Path) -> None:
    kit, sbd = folder / VOC / "VOCdevkit" / "VOC2012", folder / SBD / "benchmark_RELEASE/dataset"
    for name, stems in {"train": TRAIN, "val": VAL, "trainval": sorted(TRAIN + VAL)}.items():
        _lines(kit / "ImageSets" / "Segmentation" / f"{name}.txt", stems)
    for name, stems in {"train": SBD_TRAIN, "val": SBD_VAL}.items():
        _lines(sbd / f"{name}.txt", stems)
    stems = sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL})
    for seed, stem in enumerate(stems):
        made = scene(seed, *SIZES[seed % 2], things=(15, 1 + seed, 20), stuff=(0,))
        save(kit / "JPEGImages" / f"{stem}.jpg", made.image, quality=95)
        if stem in TRAIN + VAL:
            border = _border(made.instances)
            save_palette(
                kit / "SegmentationClass" / f"{stem}.png", np.where(border, 255, made.labels)
            )
            save_palette(
                kit / "SegmentationObject" / f"{stem}.png", np.where(border, 255, made.instances)
            )
        if stem in SBD_TRAIN + SBD_VAL:
            save(sbd / "img" / f"{stem}.jpg", made.image, quality=95)
            write_sbd(sbd, stem, made)


def write_sbd(sbd: Path, stem: str, made) -> None:
    """Write ``GTcls`` and ``GTinst`` with the fields, order and nesting of SBD."""
    labels, numbers = made.labels.astype(np.uint8), made.instances.astype(np.uint8)
    outlines = np.empty((20, 1), dtype=object)
    for label in range(20):
        outlines[label, 0] = csc_matrix(_border(labels == label + 1))
    contours = np.empty((len(made.codes), 1), dtype=object)
    for number in range(len(made.codes)):
        contours[number, 0] = csc_matrix(_border(numbers == number + 1))
    codes = np.asarray(made.codes, dtype=float)[:, None]
    classes = {
        "Boundaries": outlines,
        "Segmentation": labels,
        "CategoriesPresent": np.unique(codes)[None],
    }
    objects = {"Segmentation": numbers, "Boundaries": contours, "Categories": codes}
    for kind, name, value in (("cls", "GTcls", classes), ("inst", "GTinst", objects)):
        (sbd / kind).mkdir(parents=True, exist_ok=True)
        savemat(sbd / kind / f"{stem}.mat", {name: value}, do_compression=True)


def _border(numbers: np.ndarray) -> np.ndarray:
    """Pixels of an object beside one that is not of it."""
    padded = np.pad(numbers.astype(int), 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (centre > 0) & np.any([side != centre for side in sides], axis=0)


def _lines(path: Path, stems) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems))
