"""The truths of one prepared image against each other and against the COCO documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, CategoryTable, IntArray
from segbench.datasets.prepare.facts import Finding
from segbench.datasets.prepare.image_files import mask_areas
from segbench.datasets.reading.id_runs import relabel, shapes_of, value_counts
from segbench.formats.label_maps import read_label_map, read_panoptic_ids


def compare_truths(
    root: Path, tasks: Sequence[str], table: CategoryTable, job: Any
) -> tuple[list[int] | None, list[Finding]]:
    """Return the pixels of each class (ignored ones last) and what does not fit.

    Args:
        root: The prepared folder.
        tasks: Tasks of the dataset.
        table: Its classes.
        job: A ``PreparedJob``; its files are whole.
    """
    row = job.row
    findings: list[Finding] = []
    labels = ids = None
    try:
        if row.get("semantic"):
            labels = read_label_map(root / row["semantic"])
        if row.get("panoptic"):
            ids = read_panoptic_ids(root / row["panoptic"])
    except DataError as error:
        return None, [Finding("error", "wrong-encoding", row["image"], error.what)]
    shape = (row["height"], row["width"])
    for key, found in (("semantic", labels), ("panoptic", ids)):
        if found is not None and found.shape != shape:
            what = f"is {found.shape[1]}x{found.shape[0]}, the image {shape[1]}x{shape[0]}"
            return None, [Finding("error", "size-mismatch", row[key], what)]
    if labels is not None:
        findings += _label_findings(labels, table, row)
    if ids is not None:
        findings += _segment_findings(ids, job.segments or (), table, row)
        if not findings and labels is not None:
            findings += _disagreement(ids, labels, job.segments or (), table, row)
    findings += _object_findings(job.annotations, table, row)
    return _pixels(labels, ids, job, table), findings


def _label_findings(
    labels: IntArray, table: CategoryTable, row: Mapping[str, Any]
) -> Iterator[Finding]:
    numbers = np.flatnonzero(value_counts(labels))
    wrong = [int(n) for n in numbers if len(table) <= n != IGNORE_INDEX]
    if wrong:
        what = f"has the labels {wrong[:10]}, outside the {len(table)} classes"
        yield Finding("error", "label-outside", row["semantic"], what)


def _segment_findings(
    ids: IntArray,
    segments: Sequence[Mapping[str, Any]],
    table: CategoryTable,
    row: Mapping[str, Any],
) -> Iterator[Finding]:
    """The segments that the PNG shows and those that the JSON lists."""
    shapes, known = shapes_of(ids), set(table.category_ids)
    shown, listed = set(shapes) - {0}, {segment["id"] for segment in segments}
    texts = [
        f"segments {sorted(shown - listed)[:5]} are in the PNG but not in the JSON"
        if shown - listed
        else "",
        f"segments {sorted(listed - shown)[:5]} are in the JSON but not in the PNG"
        if listed - shown
        else "",
    ]
    for segment in segments:
        if segment["category_id"] not in known:
            texts.append(f"segment {segment['id']} has category {segment['category_id']}")
        found = shapes.get(segment["id"])
        if found and found.area != segment["area"]:
            texts.append(
                f"segment {segment['id']} has {found.area} pixels, its area is {segment['area']}"
            )
    for text in filter(None, texts):
        yield Finding("error", "panoptic-mismatch", row["panoptic"], text)


def _disagreement(
    ids: IntArray,
    labels: IntArray,
    segments: Sequence[Mapping[str, Any]],
    table: CategoryTable,
    row: Mapping[str, Any],
) -> Iterator[Finding]:
    """Where a segment's class is not the class of the label map."""
    numbers = {s["id"]: table.train_id(s["category_id"]) for s in segments if not s["iscrowd"]}
    painted = relabel(ids, numbers, default=IGNORE_INDEX)
    differing = int(((painted != labels) & (painted != IGNORE_INDEX)).sum())
    if differing:
        what = f"{differing} pixels have another class than in {row['semantic']}"
        yield Finding("error", "panoptic-mismatch", row["panoptic"], what)


def _object_findings(
    annotations: Sequence[Mapping[str, Any]], table: CategoryTable, row: Mapping[str, Any]
) -> Iterator[Finding]:
    things = {table.category_ids[t] for t in table.thing_train_ids}
    size = [row["height"], row["width"]]
    for annotation in annotations:
        name, runs = f"annotation {annotation['id']}", annotation["segmentation"]
        if annotation["category_id"] not in things:
            what = f"{name} has category {annotation['category_id']}, which is no thing"
            yield Finding("error", "instance-mismatch", row["image"], what)
        if list(runs["size"]) != size:
            what = f"{name} is a mask of {runs['size']} pixels, the image has {size}"
            yield Finding("error", "instance-mismatch", row["image"], what)


def _pixels(
    labels: IntArray | None, ids: IntArray | None, job: Any, table: CategoryTable
) -> list[int]:
    """Count as ``files.pixels_of`` does: label map, else segments, else masks."""
    counts = np.zeros(len(table) + 1, dtype=np.int64)
    if labels is not None:
        found = np.bincount(labels.reshape(-1), minlength=IGNORE_INDEX + 1)
        counts[:-1], counts[-1] = found[: len(table)], found[IGNORE_INDEX]
        return [int(count) for count in counts]
    if ids is not None:
        shapes = shapes_of(ids)
        for segment in job.segments or ():
            if segment["id"] in shapes and segment["category_id"] in table.category_ids:
                counts[table.train_id(segment["category_id"])] += shapes[segment["id"]].area
    else:
        counts[:-1] += mask_areas(job.annotations, table)
    counts[-1] = max(job.row["height"] * job.row["width"] - int(counts[:-1].sum()), 0)
    return [int(count) for count in counts]
