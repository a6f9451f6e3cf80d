"""What the two label sets of Mapillary Vistas share: files, licence and the check of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import IGNORE_INDEX, Archive, DatasetInfo, IntArray
from segbench.datasets.classes.mapillary import KEYS
from segbench.datasets.source import (
    RawImage,
    SourceImage,
    pair_by_stem,
    read_pair,
    refuse_folder,
)

FOLDERS = {"train": "training", "val": "validation"}
"""Folder of each split in the archives; the ground truth of the test split is not public."""
COUNTS = {"train": 18_000, "val": 2_000}
LICENCE = "research use after registration: CC BY-NC-SA 4.0; see the homepage"
CITATION = (
    "Neuhold, Ollmann, Rota Bulò, Kontschieder, The Mapillary Vistas dataset for semantic "
    "understanding of street scenes, ICCV 2017"
)
HOMEPAGE = "https://www.mapillary.com/dataset/vistas"
MANUAL = "Register at the homepage and ask for the research edition; the link comes by mail."


def archive(version: str) -> Archive:
    """Return the archive of a release, which only the user can fetch."""
    return Archive(f"mapillary-vistas-dataset_public_{version}.zip", manual=MANUAL)


def split_sources(
    raw: Path,
    version: str,
    kinds: Sequence[str],
    load: Callable[..., RawImage],
    info: DatasetInfo,
) -> Mapping[str, list[SourceImage]]:
    """Pair the photographs of both splits with their PNGs of every kind of ground truth.

    Truth lies in ``<split>/<version>/<kind>`` or, in the first archives, ``<split>/<kind>``.

    Raises:
        DataError: There is no split, or the label names of the folder are not ``version``'s.
    """
    _check_names(raw, version)
    splits: dict[str, list[SourceImage]] = {}
    for split, folder in FOLDERS.items():
        nested = raw / folder / version
        top = nested if nested.is_dir() else raw / folder
        truths = [top / kind for kind in kinds]
        splits[split] = pair_by_stem(raw / folder / "images", truths, load)
    if not any(splits.values()):
        refuse_folder(raw, "has no Mapillary Vistas split", info)
    return splits


def _check_names(raw: Path, version: str) -> None:
    """Compare the label names of the folder's configuration file with the known ones."""
    for name in (f"config_{version}.json", "config.json"):
        if (raw / name).is_file():
            content = read_json(raw / name)
            labels = content.get("labels") if isinstance(content, dict) else None
            names = [label.get("name") for label in labels or []]
            if tuple(names[: len(KEYS[version])]) != KEYS[version]:
                raise DataError(
                    f"{raw / name}: its {len(names)} labels are not those of {version}",
                    fix="take the folder of that release; version 2.0 holds both label sets",
                )
            return
    raise DataError(f"{raw} has no config_{version}.json, which names the labels")


def read_scene(image: Path, label_file: Path, num_labels: int) -> tuple[tuple[int, int], IntArray]:
    """Read a photograph's size (height, width) and its ground truth as train ids.

    Raises:
        DataError: A file is broken, the sizes differ, or a label is above ``num_labels``, the
            number of "unlabeled".
    """
    size, labels = read_pair(image, label_file)
    if int(labels.max(initial=0)) > num_labels:
        wrong = np.unique(labels[labels > num_labels])[:10].tolist()
        raise DataError(f"{label_file.name} has the labels {wrong}; expected 0 to {num_labels}")
    return size, np.where(labels == num_labels, IGNORE_INDEX, labels).astype(np.uint8)
