"""Cityscapes counts from the prepared form: COCO annotations and label maps of train ids.

The official files know more than these: there, instances of caravans and trailers are no void
for the instance task (here they are, as in every label map of train ids), and the confusion
matrix tells ignored labels apart (here all are 0, unlabeled). Both need the official form.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.progress import track
from segbench.core.types import IGNORE_INDEX, ImageRecord, IntArray
from segbench.evaluation.cityscapes import average_precision as cityscapes_ap
from segbench.evaluation.cityscapes.average_precision import OverlapCounts
from segbench.evaluation.cityscapes.folders import CountedInstances
from segbench.evaluation.instance.files import compress_masks, load_instances
from segbench.evaluation.protocols.cityscapes_labels import LABEL_IDS, THING_IDS
from segbench.evaluation.semantic import instance_weighted as cityscapes_instances
from segbench.evaluation.semantic.counts import count_ids
from segbench.evaluation.semantic.instance_weighted import (
    LabelCounts,
    category_members,
    count_labels,
)
from segbench.formats.label_maps import read_label_map
from segbench.formats.prepared import PreparedDataset

Entry = Mapping[str, Any]
Size = tuple[int, int]
_LABEL_OF = np.zeros(256, dtype=np.int64)
_LABEL_OF[: len(LABEL_IDS)] = LABEL_IDS
"""Label id of each train id; 0 (unlabeled) for all others."""


def count_files(
    truth_json: Path, results_json: Path, *, semantic: Path | Mapping[Any, Path] | None = None
) -> CountedInstances:
    """Count the overlaps of COCO results with a COCO truth whose categories are label ids.

    Args:
        truth_json: Things as annotations; ``iscrowd`` marks groups.
        results_json: Detections with masks.
        semantic: Label maps of the ground truth, whose 255 is void: a folder of ``<stem>.png``, or
            files by image id; without it nothing is void.

    Raises:
        DataError: A file has one of the faults ``segbench.evaluation.instance.files`` looks for, or
            the categories are not Cityscapes' label ids.
    """
    files = load_instances(truth_json, results_json, iou_type="segm")
    _check_categories(files.truth["categories"], truth_json)
    images = files.truth["images"]
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    compress_masks(files.detections, sizes)
    known = _by_image(files.truth["annotations"])
    found = _by_image(files.detections)
    maps = _map_paths(semantic, images)
    warnings = [] if maps else ["no label maps of the truth (--gt-folder): nothing is void"]
    parts = []
    for image_id, size in track(sizes.items(), len(sizes), "count instances"):
        truths, detections = (_Masks.of(e.get(image_id, []), size) for e in (known, found))
        void = _void(maps[image_id], size) if image_id in maps else []
        parts.append(_count_image(image_id, truths, detections, void))
    return CountedInstances(cityscapes_ap.merge(parts), warnings)


def _check_categories(categories: Sequence[Entry], source: Path) -> None:
    unknown = sorted({c["id"] for c in categories} - set(LABEL_IDS), key=str)
    if unknown:
        raise DataError(
            f"{source}: expected Cityscapes' label ids as category ids, found {unknown[:3]}",
            fix=f"things are {', '.join(map(str, THING_IDS))}; coco-instances takes any ids",
        )


def _by_image(entries: Sequence[Entry]) -> dict[Any, list[Entry]]:
    """Group the entries of things by image, in file order."""
    groups: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry["category_id"] in THING_IDS:
            groups[entry["image_id"]].append(entry)
    return groups


def _map_paths(
    semantic: Path | Mapping[Any, Path] | None, images: Sequence[Entry]
) -> Mapping[Any, Path]:
    if isinstance(semantic, Path):
        return {i["id"]: semantic / f"{Path(str(i.get('file_name'))).stem}.png" for i in images}
    return semantic or {}


@dataclass(frozen=True, eq=False)
class _Masks:
    """Masks of one image that have pixels: compressed RLEs, entries, label ids, pixels, all [n]."""

    rles: Sequence[Any]
    entries: Sequence[Entry]
    label_id: IntArray
    pixels: IntArray

    @classmethod
    def of(cls, entries: Sequence[Entry], size: Size) -> _Masks:
        """Read annotations or detections; empty masks are left out, as officially."""
        rles = [_rle(entry["segmentation"], size) for entry in entries]
        pixels = [int(coco_mask.area(rle)) for rle in rles]
        kept = [i for i, number in enumerate(pixels) if number]
        return cls(
            [rles[i] for i in kept],
            [entries[i] for i in kept],
            np.array([entries[i]["category_id"] for i in kept], dtype=np.int64),
            np.array([pixels[i] for i in kept], dtype=np.int64),
        )

    def shared(self, others: Sequence[Any]) -> IntArray:
        """Return the pixels each mask shares with each of other masks, [n, m]."""
        if not self.rles or not others:
            return np.zeros((len(self.rles), len(others)), dtype=np.int64)
        # Against a crowd the IoU is shared / own pixels, from which rounding gives the integer.
        shares = coco_mask.iou(list(self.rles), list(others), [1] * len(others))
        pixels: IntArray = np.rint(shares * self.pixels[:, None]).astype(np.int64)
        return pixels


def _rle(segmentation: Any, size: Size) -> Any:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation


def _count_image(
    image_id: Any,
    truth: _Masks,
    found: _Masks,
    void: Sequence[Any],
) -> OverlapCounts:
    """Count one image; ``void`` is the RLE of its void, or nothing."""
    shared = found.shared(truth.rles)
    shared[found.label_id[:, None] != truth.label_id[None, :]] = 0
    rows, columns = np.nonzero(shared)
    groups = np.array([entry["iscrowd"] for entry in truth.entries], dtype=np.int64)
    on_void = found.shared(void).sum(axis=1)
    known, given = np.zeros_like(truth.pixels), np.zeros_like(found.pixels)
    return OverlapCounts(
        (image_id,),
        np.stack([known, truth.label_id, truth.pixels, groups], axis=1),
        np.stack([given, found.label_id, found.pixels, on_void], axis=1),
        np.array([entry["score"] for entry in found.entries], dtype=np.float64),
        np.stack([rows, columns, shared[rows, columns]], axis=1).astype(np.int64),
    )


def _void(path: Path, size: Size) -> list[Any]:
    """Return the RLE of a label map's void."""
    labels = read_label_map(path, size=size)
    return [coco_mask.encode(np.asfortranarray(labels == IGNORE_INDEX).astype(np.uint8))]


def count_instances_of(
    dataset: PreparedDataset, split: str, predictions: Path, records: Sequence[ImageRecord]
) -> OverlapCounts:
    """Count the overlaps of a prediction folder with a prepared split."""
    maps = {r.image_id: r.semantic for r in records if r.semantic is not None}
    results = predictions / "instances.json"
    return count_files(dataset.instances_file(split), results, semantic=maps).counts


def count_labels_of(
    dataset: PreparedDataset, split: str, predictions: Path, records: Sequence[ImageRecord]
) -> LabelCounts:
    """Count label ids of a prediction folder's label maps on a prepared split.

    Raises:
        DataError: The ground truth's categories are not Cityscapes' label ids.
    """
    if dataset.table.category_ids != LABEL_IDS:
        raise DataError(f"dataset '{dataset.name}': expected the label ids of Cityscapes in order")
    things: dict[Any, list[Entry]] | None = None
    if "instance" in dataset.tasks:
        truth = read_json(dataset.instances_file(split))
        things = _by_image([a for a in truth["annotations"] if not a["iscrowd"]])
    folder = predictions / "semantic"
    steps = track(records, len(records), "count instances")
    parts = [_count_labels(r, folder / f"{r.stem}.png", things) for r in steps]
    return cityscapes_instances.merge(parts)


def _count_labels(
    record: ImageRecord, path: Path, things: Mapping[Any, Sequence[Entry]] | None
) -> LabelCounts:
    assert record.semantic is not None
    truth = read_label_map(record.semantic)
    prediction = read_label_map(path, size=truth.shape)
    table = count_ids(truth, prediction, image_id=record.image_id)
    by_label = np.zeros((256, 256), dtype=np.int64)
    np.add.at(by_label, (_LABEL_OF[:, None], _LABEL_OF[None, :]), table)
    rows = None
    if things is not None:
        masks = _Masks.of(things.get(record.image_id, []), truth.shape[:2])
        rows = _instance_rows(masks, _LABEL_OF[prediction])
    return count_labels(by_label, rows, image_id=record.image_id)


def _instance_rows(masks: _Masks, labels: IntArray) -> IntArray:
    """Return the rows of ``cityscapes_instances.count_instances`` from masks."""
    rows = []
    for rle, label_id in zip(masks.rles, masks.label_id.tolist(), strict=True):
        pixels = np.bincount(labels[coco_mask.decode(rle) > 0], minlength=256)
        members = list(category_members(label_id))
        rows.append((label_id, pixels.sum(), pixels[label_id], pixels[members].sum()))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)
