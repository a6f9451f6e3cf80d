"""The COCO documents of a split and the description of a prepared dataset.

Documents are written image by image from the journal and never held whole: those of COCO
would take gigabytes of memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from segbench.core.files import atomic_open
from segbench.core.types import DatasetInfo, Task
from segbench.datasets.prepare.facts import SplitFacts
from segbench.datasets.prepare.image_files import Json
from segbench.formats.prepared import SCHEMA

Entries = Callable[[], Iterator[Json]]
"""Gives the entries of a split in order, each time it is called."""


class ContentDigest:
    """Digest over classes, pixels and ground truth of all images, fed one image at a time.

    It equals ``json_digest([name, classes, {split: [[id, stem, content], ...]}])``; splits
    come in alphabetical order.
    """

    def __init__(self, info: DatasetInfo) -> None:
        classes = [[c.id, c.name, c.isthing] for c in info.categories]
        head = json.dumps([info.name, classes])
        self._digest = hashlib.sha256(head[:-1].encode() + b", {")
        self._splits = 0

    @contextmanager
    def split(self, name: str) -> Iterator[Callable[[Json], None]]:
        """Yield what takes the rows of a split."""
        self._digest.update((", " if self._splits else "").encode())
        self._digest.update(json.dumps(name).encode() + b": [")
        self._splits += 1
        count = 0

        def add(row: Json) -> None:
            nonlocal count
            item = [row["image_id"], Path(row["image"]).stem, row["content"]]
            self._digest.update((", " if count else "").encode() + json.dumps(item).encode())
            count += 1

        yield add
        self._digest.update(b"]")

    def hexdigest(self) -> str:
        """Return 16 hex digits."""
        closed = self._digest.copy()
        closed.update(b"}]")
        return closed.hexdigest()[:16]


class _Document:
    """A COCO document written piece by piece: info, images, annotations, categories."""

    def __init__(self, stream: BinaryIO, description: str) -> None:
        self._stream = stream
        self._put('{"info": ' + json.dumps({"description": description}))

    def begin(self, name: str) -> None:
        """Begin a list."""
        self._put(f', "{name}": [')
        self._count = 0

    def item(self, value: Json) -> None:
        self._put((", " if self._count else "") + json.dumps(value, allow_nan=False))
        self._count += 1

    def end(self) -> None:
        self._put("]")

    def close(self, categories: list[Json]) -> None:
        self._put(', "categories": ' + json.dumps(categories) + "}\n")

    def _put(self, text: str) -> None:
        self._stream.write(text.encode())


def write_documents(
    info: DatasetInfo, out: Path, *, split: str, entries: Entries, digest: ContentDigest
) -> SplitFacts:
    """Write the COCO documents and the list of one split; feed the digest; return its facts."""
    facts = SplitFacts()
    with ExitStack() as stack:
        documents: dict[Task, _Document] = {
            task: _Document(
                stack.enter_context(atomic_open(out / "annotations" / f"{word}_{split}.json")),
                f"{info.display_name}, {split}",
            )
            for task, word in (("instance", "instances"), ("panoptic", "panoptic"))
            if task in info.tasks
        }
        rows = stack.enter_context(atomic_open(out / f"{split}.jsonl"))
        for document in documents.values():
            document.begin("images")
        with digest.split(split) as add_to_digest:
            for entry in entries():
                facts.add_entry(entry)
                add_to_digest(entry["row"])
                rows.write(json.dumps(entry["row"], allow_nan=False).encode() + b"\n")
                for document in documents.values():
                    document.item(_image(entry["row"]))
        for document in documents.values():
            document.end()
        if documents:
            _write_annotations(documents, entries, info)
    return facts


def _image(row: Json) -> Json:
    return {
        "id": row["image_id"],
        "file_name": Path(row["image"]).name,
        "width": row["width"],
        "height": row["height"],
    }


def _write_annotations(
    documents: Mapping[Task, _Document], entries: Entries, info: DatasetInfo
) -> None:
    """Write the annotations; objects get ids from 1: pycocotools takes 0 for 'unmatched'."""
    number = 0
    for document in documents.values():
        document.begin("annotations")
    for entry in entries():
        if "instance" in documents:
            for annotation in entry["annotations"]:
                number += 1
                documents["instance"].item({"id": number, **annotation})
        if "panoptic" in documents:
            documents["panoptic"].item(
                {
                    "image_id": entry["row"]["image_id"],
                    "file_name": Path(entry["row"]["panoptic"]).name,
                    "segments_info": entry["segments"],
                }
            )
    for task, document in documents.items():
        document.end()
        document.close(
            [
                {**asdict(c), "isthing": int(c.isthing), "color": list(c.color)}
                for c in info.categories
                if task == "panoptic" or c.isthing
            ]
        )


def describe(
    info: DatasetInfo,
    facts: Mapping[str, SplitFacts],
    *,
    options: Mapping[str, Any],
    request: str,
    digest: str,
) -> Json:
    """Return the content of ``dataset.json``; nothing in it depends on time, place or encoder.

    ``digest`` covers classes, pixels and ground truth; ``request`` what the folder was made from.
    """
    return {
        "schema": SCHEMA,
        "name": info.name,
        "display_name": info.display_name,
        "description": info.description,
        "categories": [asdict(category) for category in info.categories],
        "tasks": list(info.tasks),
        "splits": {split: one.images for split, one in facts.items()},
        "official_splits": dict(info.splits),
        "protocols": dict(info.protocols),
        "licence": info.licence,
        "citation": info.citation,
        "homepage": info.homepage,
        "options": dict(options),
        "digest": digest,
        "request": request,
        "class_histogram": {split: one.histogram for split, one in facts.items()},
    }
