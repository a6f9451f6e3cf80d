"""Overlays of one run, made once beside its predictions and linked into every report.

<out>/<task>/<stem>.webp          the prediction in colours, with alpha, lossless
<out>/<task>/<stem>-error.webp    where it differs from the truth
<out>/overlays.json               what is there, written last of all
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segbench.errors import DataError
from segbench.evaluation.counts import image_scores, load_counts
from segbench.formats import write_json
from segbench.prepared import PreparedDataset
from segbench.progress import track
from segbench.report_layers import open_layers
from segbench.report_ranks import worst_first
from segbench.types import ImageRecord, Task

INDEX = "overlays.json"


def write_overlays(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    *,
    tasks: Sequence[Task],
    evaluation: Path,
    out: Path,
    limit: int,
) -> dict[str, Any]:
    """Draw the worst images of a run for each task.

    Args:
        dataset: The prepared dataset.
        split: The predicted split.
        predictions: The run's prediction folder.
        tasks: Tasks to draw.
        evaluation: Folder with ``<task>/counts.npz``, which says what the worst images are.
        out: An empty folder to write into.
        limit: Images of each task at most.

    Returns:
        The content of ``overlays.json``: the drawn stems of each task.
    """
    records = dataset.images(split)
    drawn = {}
    for task in tasks:
        scores = image_scores(load_counts(evaluation / task / "counts.npz"))
        ordered = sorted(records, key=lambda record: worst_first(scores.get(record.image_id)))
        drawn[task] = _draw(dataset, split, predictions, task, ordered[:limit], out / task)
    index = {"schema": 1, "dataset": dataset.name, "split": split, "drawn": drawn}
    write_json(out / INDEX, index, indent=None)
    return index


def _draw(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    task: Task,
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


def reuse(source: Path, target: Path) -> bool:
    """Link (or copy) a finished overlay into a site; False where it was never drawn."""
    if not source.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except OSError:
        shutil.copyfile(source, target)
    return True


def finished(folder: Path) -> bool:
    """Tell whether a folder of overlays is complete."""
    return (folder / INDEX).is_file()
