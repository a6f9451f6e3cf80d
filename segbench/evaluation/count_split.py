"""A whole prediction folder against a prepared dataset: counts stored, scores returned.

The folder has the layout of docs/contracts.md: ``semantic/<stem>.png``,
``instances.json``, ``panoptic.json`` with ``panoptic/<file_name>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import Category, ImageRecord, Task
from segbench.evaluation.cityscapes import coco_form as cityscapes_coco
from segbench.evaluation.count_files import Files, count_files
from segbench.evaluation.counts import save_counts
from segbench.evaluation.kinds import Counts
from segbench.evaluation.protocol import Protocol, get_protocol
from segbench.evaluation.protocols.label_codes import TRAIN_IDS
from segbench.evaluation.scores import score_parts
from segbench.evaluation.semantic import counts as semantic
from segbench.evaluation.semantic.folders import count_pairs
from segbench.evaluation.semantic.label_maps import FilePairs
from segbench.formats.prepared import PreparedDataset


@dataclass(frozen=True)
class Evaluation:
    """Scores of one task.

    ``scores``: fractions in [0, 1], None without a value (``n``, ``n_things``, ``n_stuff``
    are numbers of categories). ``per_class``: ``name``, ``color``, ``isthing`` and the
    class's own scores, in the order of the dataset's categories.
    """

    scores: dict[str, float | None]
    per_class: list[dict[str, Any]]
    num_images: int
    warnings: tuple[str, ...] = ()
    """What looks wrong in the predictions though they can be scored."""


def evaluate(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    *,
    task: Task,
    protocol_id: str,
    counts_path: Path,
    boundary: bool = False,
    workers: int = 1,
) -> Evaluation:
    """Score every image of a split and store the counts.

    Args:
        dataset: The prepared ground truth.
        split: One of its splits.
        predictions: Folder with the predictions of that split.
        task: What to score.
        protocol_id: The protocol to score under.
        counts_path: Where the counts of each image go (``counts.npz``).
        boundary: Score boundaries too.
        workers: Processes that count images; the counts are the same for any number.

    Raises:
        ConfigError: The dataset has no such split or truth, or the protocol does not fit.
        DataError: A prediction is missing, broken or does not fit the ground truth. Nothing is
            scored in part.
    """
    protocol = get_protocol(protocol_id, task=task)
    if task not in dataset.tasks:
        raise ConfigError(
            f"dataset '{dataset.name}' has no {task} truth",
            fix=f"its tasks are {', '.join(dataset.tasks)}",
        )
    records = dataset.images(split)
    warnings: list[str] = []
    parts = count_split(
        dataset, split, Path(predictions), task=task, records=records, protocol=protocol,
        boundary=boundary, workers=workers, warnings=warnings,
    )  # fmt: skip
    _check_images(parts, records)
    result = score_parts(parts, protocol)
    save_counts(counts_path, parts)
    per_class = result.pop("per_class")
    rows = _describe(dataset, parts, per_class)
    return Evaluation(result, rows, len(records), tuple(warnings))


def count_split(
    dataset: PreparedDataset,
    split: str,
    predictions: Path,
    *,
    task: Task,
    records: Sequence[ImageRecord],
    protocol: Protocol,
    boundary: bool = False,
    workers: int = 1,
    warnings: list[str],
) -> dict[str, Counts]:
    """Return the counts of a split by part, as ``counts.npz`` stores them.

    ``warnings`` takes what looks wrong in the predictions though they can be scored.
    """
    if task == "semantic":
        counts = _count_semantic(
            records, predictions / "semantic", len(dataset.table),
            boundary=boundary, workers=workers, warnings=warnings,
        )  # fmt: skip
        parts: dict[str, Counts] = {"semantic": counts}
        if protocol.instance_weighted:
            found = cityscapes_coco.count_labels_of(dataset, split, predictions, records)
            parts["semantic_labels"] = found
        return parts
    if protocol.evaluator == "cityscapes_instance":
        overlaps = cityscapes_coco.count_instances_of(dataset, split, predictions, records)
        return {"segm_overlaps": overlaps}
    panoptic = task == "panoptic"
    files = Files(
        dataset.panoptic_file(split) if panoptic else dataset.instances_file(split),
        predictions / f"{task if panoptic else 'instances'}.json",
        truth_folder=dataset.panoptic_folder(split) if panoptic else None,
        prediction_folder=predictions / "panoptic",
        boundary=boundary, workers=workers, warnings=warnings,
    )  # fmt: skip
    return count_files(files, protocol)


def _count_semantic(
    records: Sequence[ImageRecord],
    folder: Path,
    num_classes: int,
    *,
    boundary: bool,
    workers: int,
    warnings: list[str],
) -> semantic.SemanticCounts:
    if not records:
        raise DataError("there are no images to score")
    missing = [r.stem for r in records if not (folder / f"{r.stem}.png").is_file()]
    if missing:
        raise DataError(
            f"{folder}: no prediction for {len(missing)} of {len(records)} images, first "
            f"{', '.join(f'{stem}.png' for stem in missing[:3])}",
            fix="predict every image of the split; a part of it is never scored",
        )
    pairs = [(_truth_of(record), folder / f"{record.stem}.png") for record in records]
    given = FilePairs(pairs, TRAIN_IDS, num_classes, instances=False, boundary=boundary)
    found = count_pairs(given, folder, label="evaluate semantic", workers=workers)
    warnings.extend(found.warnings)
    return replace(found.counts, image_ids=tuple(record.image_id for record in records))


def _truth_of(record: ImageRecord) -> Path:
    if record.semantic is None:
        raise DataError(f"{record.image} has no semantic truth in the prepared dataset")
    return record.semantic


def _check_images(parts: Mapping[str, Counts], records: Sequence[ImageRecord]) -> None:
    expected = {record.image_id for record in records}
    for part, counts in parts.items():
        differing = sorted(expected ^ set(counts.image_ids), key=str)
        if differing:
            raise DataError(
                f"the {part} truth and the split's image list differ in {len(differing)} "
                f"images, first ids {differing[:3]}",
                fix="prepare the dataset again",
            )


def _describe(
    dataset: PreparedDataset, parts: Mapping[str, Counts], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Name the rows and put them in the order of the dataset's categories."""
    counts = next(iter(parts.values()))
    ids: Sequence[int] = dataset.table.category_ids
    if not isinstance(counts, semantic.SemanticCounts):
        ids = counts.category_ids
    by_id = dict(zip(ids, rows, strict=False))  # one row more where void counts as a class
    unknown = sorted(set(by_id) - set(dataset.table.category_ids))
    if unknown:
        raise DataError(
            f"dataset '{dataset.name}': its truth has categories its description lacks: {unknown}",
            fix="prepare the dataset again",
        )
    known = [{**_facts(c), **by_id[c.id]} for c in dataset.table.categories if c.id in by_id]
    return known + [{**_VOID_FACTS, **row} for row in rows[len(ids) :]]


_VOID_FACTS = {"id": None, "name": "void", "color": [0, 0, 0], "isthing": False}


def _facts(category: Category) -> dict[str, Any]:
    return {
        "id": category.id,
        "name": category.name,
        "color": list(category.color),
        "isthing": category.isthing,
    }
