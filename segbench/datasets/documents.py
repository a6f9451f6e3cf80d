"""The COCO documents of a split and the description of a prepared dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segbench.datasets.files import Json
from segbench.formats import write_json, write_jsonl
from segbench.prepared import SCHEMA
from segbench.provenance import json_digest
from segbench.types import DatasetInfo


def write_documents(info: DatasetInfo, out: Path, *, split: str, entries: Sequence[Json]) -> None:
    """Write the COCO documents and the list of one split."""
    rows = [entry["row"] for entry in entries]
    images = [
        {
            "id": row["image_id"],
            "file_name": Path(row["image"]).name,
            "width": row["width"],
            "height": row["height"],
        }
        for row in rows
    ]
    categories = [asdict(category) for category in info.categories]
    head = {"info": {"description": f"{info.display_name}, {split}"}, "images": images}
    folder = out / "annotations"
    if "instance" in info.tasks:
        things = [c for c in categories if c["isthing"]]
        document = {**head, "annotations": _numbered(entries), "categories": _coco(things)}
        write_json(folder / f"instances_{split}.json", document, indent=None)
    if "panoptic" in info.tasks:
        annotations = [
            {
                "image_id": entry["row"]["image_id"],
                "file_name": Path(entry["row"]["panoptic"]).name,
                "segments_info": entry["segments"],
            }
            for entry in entries
        ]
        document = {**head, "annotations": annotations, "categories": _coco(categories)}
        write_json(folder / f"panoptic_{split}.json", document, indent=None)
    write_jsonl(out / f"{split}.jsonl", rows)


def _numbered(entries: Sequence[Json]) -> list[Json]:
    """Return all annotations with ids from 1: pycocotools takes id 0 for 'unmatched'."""
    every = [annotation for entry in entries for annotation in entry["annotations"]]
    return [{"id": number, **annotation} for number, annotation in enumerate(every, start=1)]


def _coco(categories: Sequence[Json]) -> list[Json]:
    return [{**c, "isthing": int(c["isthing"]), "color": list(c["color"])} for c in categories]


def describe(
    info: DatasetInfo,
    entries: Mapping[str, Sequence[Json]],
    *,
    options: Mapping[str, Any],
    request: str,
) -> Json:
    """Return the content of ``dataset.json``; nothing in it depends on time, place or encoder.

    ``digest`` covers classes, pixels and truth; ``request`` what the folder was made from.
    """
    categories = [asdict(category) for category in info.categories]
    contents = {
        split: [
            [e["row"]["image_id"], Path(e["row"]["image"]).stem, e["row"]["content"]] for e in found
        ]
        for split, found in entries.items()
    }
    tables = [[c["id"], c["name"], c["isthing"]] for c in categories]
    return {
        "schema": SCHEMA,
        "name": info.name,
        "display_name": info.display_name,
        "description": info.description,
        "categories": categories,
        "tasks": list(info.tasks),
        "splits": {split: len(found) for split, found in entries.items()},
        "official_splits": dict(info.splits),
        "protocols": dict(info.protocols),
        "licence": info.licence,
        "citation": info.citation,
        "homepage": info.homepage,
        "options": dict(options),
        "digest": json_digest([info.name, tables, contents]),
        "request": request,
        "class_histogram": {split: _histogram(found) for split, found in entries.items()},
    }


def _histogram(entries: Sequence[Json]) -> Json:
    sums = [sum(column) for column in zip(*(entry["pixels"] for entry in entries), strict=True)]
    return {"pixels": sums[:-1], "ignored": sums[-1]}
