"""Overlays of one run, made once beside its predictions and linked into every report.

<out>/<task>/<stem>.webp          the prediction in colours, with alpha, lossless
<out>/<task>/<stem>-error.webp    where it differs from the ground truth
<out>/overlays.json               what is there, written last of all
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.progress import track
from segbench.core.seal import read_sealed, write_sealed
from segbench.core.types import ImageRecord
from segbench.evaluation.counts import image_scores, load_counts
from segbench.formats.prepared import PreparedDataset
from segbench.report.pictures.layers import open_layers
from segbench.report.values import worst_first

INDEX = "overlays.json"


def write_overlays(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    *,
    counts: Mapping[str, Path | None],
    out: Path,
    limit: int,
    made_from: str,
) -> dict[str, Any]:
    """Draw the worst images of a run for each task.

    Args:
        dataset: The prepared dataset.
        split: The predicted split.
        predictions: The run's prediction folder.
        counts: Tasks to draw, each with its ``counts.npz``, which says what the worst images
            are; None draws them in file order.
        out: An empty folder to write into.
        limit: Images of each task at most.
        made_from: Digest of the predictions, as their manifest says it.

    Returns:
        The content of ``overlays.json``: the drawn stems of each task.
    """
    records = dataset.images(split)
    drawn = {}
    for task, file in counts.items():
        scores = image_scores(load_counts(file)) if file else {}
        ordered = sorted(records, key=lambda record: worst_first(scores.get(record.image_id)))
        drawn[task] = _draw(dataset, split, predictions, task, ordered[:limit], out / task)
    index = {
        "schema": 1,
        "dataset": dataset.name,
        "split": split,
        "data": dataset.digest,
        "predictions": made_from,
        "drawn": drawn,
    }
    return write_sealed(out / INDEX, index, indent=None)


def _draw(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    task: str,
    records: Sequence[ImageRecord],
    out: Path,
) -> list[str]:
    truth = open_layers(dataset, split, task)
    found = open_layers(dataset, split, task, predictions)
    if truth is None or found is None:
        raise DataError(f"{predictions} holds no {task} predictions to draw")
    for record in track(records, len(records), f"overlays {task}"):
        found.write(record, out / f"{record.stem}.webp")
        found.write_error(record, truth, out / f"{record.stem}-error.webp")
    return [record.stem for record in records]


def reuse(folder: Path, name: str, target: Path) -> bool:
    """Link (or copy) a finished overlay into a site; False where it was never drawn."""
    source = folder / name
    if not source.is_file() or source.is_symlink():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except OSError:
        shutil.copyfile(source, target)
    return True


def finished(folder: Path, digests: Mapping[str, Any]) -> bool:
    """Tell whether a folder of overlays is complete and drawn from what a record was made from.

    Args:
        folder: The overlays of a run.
        digests: Those of the record.
    """
    try:
        index = read_sealed(folder / INDEX, again="")
    except DataError:
        return False
    return all(index.get(key) == digests.get(key) for key in ("data", "predictions"))
