"""Prediction folders made elsewhere: checked for completeness and taken over as a row."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from segbench.core import provenance
from segbench.core.errors import ConfigError, DataError
from segbench.core.files import read_json
from segbench.core.types import ImageRecord, Task
from segbench.formats.prepared import PreparedDataset
from segbench.workflow.config import Submission

LAYOUT: dict[Task, tuple[str, ...]] = {
    "semantic": ("semantic/*.png",),
    "instance": ("instances.json",),
    "panoptic": ("panoptic.json", "panoptic/*.png"),
}
"""Files of each task, relative to a prediction folder."""


def folder_state(submission: Submission) -> str:
    """Return a digest over names, sizes and times of the submission's files.

    It reads no file, so that a workflow can ask at every start. A missing folder has a
    state too: the job that needs it says what is wrong.
    """
    state = []
    for path in _files(submission):
        facts = path.stat()
        state.append((str(path), facts.st_size, facts.st_mtime_ns))
    return provenance.json_digest(state)


def take_over(submission: Submission, dataset: PreparedDataset, out: Path) -> None:
    """Copy the prediction files of a submission to ``out`` once they cover the split.

    Args:
        submission: Its dataset, split, tasks and folder.
        dataset: The prepared ground truth.
        out: An empty folder.

    Raises:
        ConfigError: The dataset is another one or lacks the split or a task.
        DataError: The folder or a prediction is missing. Nothing is copied in part.
    """
    if dataset.name != submission.dataset:
        raise ConfigError(f"expected dataset '{submission.dataset}', found '{dataset.name}'")
    for task in submission.tasks:
        dataset.protocol(task)
    records = dataset.images(submission.split)
    if not submission.folder.is_dir():
        raise DataError(
            f"{submission.folder}: the folder of predictions does not exist",
            fix="correct `folder` in the submission; it is relative to the working directory",
        )
    for task in submission.tasks:
        _check_cover(task, submission.folder, records)
    stems = {record.stem for record in records}
    for path in _files(submission):
        if path.parent.name != "semantic" or path.stem in stems:
            target = out / path.relative_to(submission.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _files(submission: Submission) -> Iterator[Path]:
    for task in submission.tasks:
        for pattern in LAYOUT[task]:
            found = sorted(submission.folder.glob(pattern))
            yield from (p for p in found if p.is_file() and not p.name.startswith("."))


def _check_cover(task: Task, folder: Path, records: Sequence[ImageRecord]) -> None:
    if task == "semantic":
        missing = [r.stem for r in records if not (folder / "semantic" / f"{r.stem}.png").is_file()]
        _refuse(missing, len(records), folder / "semantic")
        return
    file = folder / LAYOUT[task][0]
    if not file.is_file():
        raise DataError(f"{folder}: expected {file.name} for the {task} task, found none")
    if task == "panoptic":
        found = _panoptic_images(file)
        _refuse([r.stem for r in records if r.image_id not in found], len(records), file)


def _panoptic_images(file: Path) -> set[object]:
    content = read_json(file)
    try:
        return {annotation["image_id"] for annotation in content["annotations"]}
    except (KeyError, TypeError):
        raise DataError(
            f"{file}: expected COCO panoptic results, an object whose annotations have image_id"
        ) from None


def _refuse(missing: Sequence[str], total: int, where: Path) -> None:
    if missing:
        raise DataError(
            f"{where}: no prediction for {len(missing)} of {total} images, first "
            f"{', '.join(missing[:3])}",
            fix="predict every image of the split; a part of it is never scored",
        )
