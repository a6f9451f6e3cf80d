"""Everything that is wrong with a dataset, raw or prepared, without writing anything.

A raw folder is read as ``prepare`` reads it. Of a prepared one every file is read and
compared with its digest, with the documents and with the other truths of the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.files import as_written, iter_jsonl, read_json
from segbench.core.progress import track
from segbench.core.provenance import file_digest
from segbench.core.types import CategoryTable, DatasetInfo
from segbench.datasets.prepare.build import ImageJob, Splits, for_each, image_jobs
from segbench.datasets.prepare.facts import Finding, SplitFacts, split_findings
from segbench.datasets.prepare.file_faults import encoding_of, faults_of, size_of
from segbench.datasets.prepare.image_files import check_raw_image, pixels_of
from segbench.datasets.prepare.truth_checks import compare_truths
from segbench.formats.prepared import PreparedDataset


@dataclass(frozen=True)
class Report:
    """The findings of a check and what was looked at."""

    name: str
    folder: str
    form: str
    """``raw`` or ``prepared``."""
    images: Mapping[str, int]
    """Images of each split, bad ones included."""
    findings: tuple[Finding, ...]
    histogram: Mapping[str, Any]

    @property
    def errors(self) -> int:
        return sum(finding.level == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    def as_json(self) -> dict[str, Any]:
        return {
            "dataset": self.name,
            "folder": self.folder,
            "form": self.form,
            "images": dict(self.images),
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.as_json() for finding in self.findings],
            "class_histogram": dict(self.histogram),
        }


@dataclass(frozen=True)
class Looked:
    """One image after it was looked at; ``pixels`` is None where it cannot be used."""

    split: str
    stem: str
    digest: str
    pixels: list[int] | None
    findings: tuple[Finding, ...] = ()


def check_raw(info: DatasetInfo, folder: Path | None, splits: Splits, *, workers: int) -> Report:
    """Read every image of a raw folder as ``prepare`` would."""
    total = sum(len(items) for items in splits.values())
    looked = for_each(
        look_at_raw, image_jobs(splits), total, name=info.name, table=info.table, workers=workers
    )
    return summarise(
        Report(info.name, str(folder or ""), "raw", {}, (), {}),
        track(looked, total, f"check {info.name}"),
        table=info.table,
        tasks=info.tasks,
        splits={split: len(items) for split, items in splits.items()},
        official=info.splits,
    )


def summarise(
    report: Report,
    looked: Iterator[Looked],
    *,
    table: CategoryTable,
    tasks: Sequence[str],
    splits: Mapping[str, int],
    official: Mapping[str, int | None],
) -> Report:
    """Collect what was found in images and add what the splits say together."""
    facts = {split: SplitFacts() for split in splits}
    findings: list[Finding] = []
    for image in looked:
        findings.extend(image.findings)
        if image.pixels is not None:
            facts[image.split].add(image.stem, image.digest, image.pixels)
    used = {split: one for split, one in facts.items() if one.images}
    findings += split_findings(used, table=table, tasks=tasks, official=official)
    histogram = {split: one.histogram for split, one in used.items()}
    return replace(report, images=dict(splits), findings=tuple(findings), histogram=histogram)


def look_at_raw(table: CategoryTable, job: ImageJob) -> Looked:
    """Read one image with its ground truth and say what is wrong with it."""
    item, place = job.item, f"{job.split}/{job.item.stem}"
    faults = [
        Finding("error", kind, str(path), f"{what} (image {place})")
        for kind, path, what in faults_of(item.files)
    ]
    try:
        raw = item.load()
        check_raw_image(raw, table)
    except DataError as error:
        found = faults or [_truth_finding(place, item.files, error)]
        return Looked(job.split, item.stem, "", None, tuple(found))
    if isinstance(raw.image, Path):
        digest = file_digest(raw.image)
    else:
        digest = hashlib.sha256(np.ascontiguousarray(raw.image).tobytes()).hexdigest()
    return Looked(job.split, item.stem, digest, pixels_of(raw, table), tuple(faults))


def _truth_finding(place: str, files: Sequence[Path], error: DataError) -> Finding:
    """Files are whole, but what they say is refused: name why, and how each is encoded."""
    images = [path for path in files if size_of(path)]
    encodings = [f"{path.name}: {encoding_of(path)}" for path in images if encoding_of(path)]
    what = f"{error.what} ({', '.join(encodings)})" if encodings else error.what
    if len({size_of(path) for path in images}) > 1:
        return Finding("error", "size-mismatch", place, error.what)
    if "found mode" in error.what:
        return Finding("error", "wrong-encoding", place, what)
    kind = "label-outside" if "label" in error.what else "bad-truth"
    return Finding("error", kind, place, what)


def check_prepared(dataset: PreparedDataset, *, workers: int) -> Report:
    """Read every file of a prepared dataset and compare it with all that is said of it.

    Raises:
        DataError: A list or a document has not the keys that ``prepare`` writes.
    """
    with as_written(f"{dataset.root}: a list of images or annotations", fix="prepare it again"):
        return _check_prepared(dataset, workers=workers)


def _check_prepared(dataset: PreparedDataset, *, workers: int) -> Report:
    description, table = dataset.description, dataset.table
    jobs, findings = _prepared_jobs(dataset)
    looked = for_each(
        partial(look_at_prepared, dataset.root, dataset.tasks), iter(jobs), len(jobs),
        name=dataset.name, table=table, workers=workers,
    )  # fmt: skip
    report = summarise(
        Report(dataset.name, str(dataset.root), "prepared", {}, (), {}),
        track(looked, len(jobs), f"check {dataset.name}"),
        table=table,
        tasks=dataset.tasks,
        splits=description["splits"],
        official=description.get("official_splits", {}),
    )
    findings += report.findings
    if not any(finding.level == "error" for finding in findings):
        findings += _against_description(dataset, report)
    return replace(report, findings=tuple(findings))


@dataclass(frozen=True)
class PreparedJob:
    """One row of a prepared split with what the COCO documents say of the image."""

    split: str
    row: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]]
    segments: Sequence[Mapping[str, Any]] | None


def _prepared_jobs(dataset: PreparedDataset) -> tuple[list[PreparedJob], list[Finding]]:
    """Return the images of all splits, and where lists, documents and folders disagree."""
    jobs: list[PreparedJob] = []
    findings: list[Finding] = []
    for split, expected in dataset.description["splits"].items():
        rows = list(iter_jsonl(dataset.root / f"{split}.jsonl"))
        if len(rows) != expected:
            what = f"lists {len(rows)} images, dataset.json says {expected}"
            findings.append(Finding("error", "changed-file", f"{split}.jsonl", what))
        ids = {row["image_id"] for row in rows}
        objects, segments, wrong = _documents(dataset, split, ids)
        findings += [*wrong, *_unlisted(dataset, split, rows)]
        jobs += [
            PreparedJob(split, row, objects.get(row["image_id"], ()), segments.get(row["image_id"]))
            for row in rows
        ]
    return jobs, findings


def _documents(
    dataset: PreparedDataset, split: str, ids: set[int]
) -> tuple[dict[int, list[Any]], dict[int, list[Any]], list[Finding]]:
    """Return objects and segments by image id, and findings about the two documents."""
    objects: dict[int, list[Any]] = {}
    segments: dict[int, list[Any]] = {}
    findings = []
    if "instance" in dataset.tasks:
        path = dataset.instances_file(split)
        entries = read_json(path)["annotations"]
        numbers = [entry["id"] for entry in entries]
        if len(set(numbers)) < len(numbers) or min(numbers, default=1) < 1:
            what = "annotation ids are not distinct numbers from 1"
            findings.append(Finding("error", "instance-mismatch", path.name, what))
        for entry in entries:
            objects.setdefault(entry["image_id"], []).append(entry)
        findings += _unknown_images("instance-mismatch", path, objects.keys() - ids)
    if "panoptic" in dataset.tasks:
        path = dataset.panoptic_file(split)
        for entry in read_json(path)["annotations"]:
            segments[entry["image_id"]] = entry["segments_info"]
        findings += _unknown_images("panoptic-mismatch", path, segments.keys() ^ ids)
    return objects, segments, findings


def _unknown_images(kind: str, path: Path, ids: Iterable[int]) -> list[Finding]:
    found = sorted(ids)
    what = f"{len(found)} images are in this file or in the list of the split only: {found[:5]}"
    return [Finding("error", kind, path.name, what)] if found else []


def _unlisted(
    dataset: PreparedDataset, split: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    listed = {row.get(key) for row in rows for key in ("image", "semantic", "panoptic")}
    for folder in ("images", "semantic", "panoptic"):
        for path in sorted((dataset.root / folder / split).glob("*")):
            name = path.relative_to(dataset.root).as_posix()
            if name not in listed and not path.name.startswith("."):
                yield Finding("warning", "unlisted-file", name, f"is not in {split}.jsonl")


def look_at_prepared(
    root: Path, tasks: Sequence[str], table: CategoryTable, job: PreparedJob
) -> Looked:
    """Read the files of one image and compare them with each other and with the documents."""
    row, stem = job.row, Path(job.row["image"]).stem
    findings = list(_file_findings(root, row))
    if findings:
        return Looked(job.split, stem, "", None, tuple(findings))
    pixels, wrong = compare_truths(root, tasks, table, job)
    return Looked(job.split, stem, row["sha256"]["image"], pixels, tuple(wrong))


def _file_findings(root: Path, row: Mapping[str, Any]) -> Iterator[Finding]:
    """Faults of the files of a row; a whole file with another digest was changed."""
    paths = {key: root / row[key] for key in row["sha256"]}
    faulty = set()
    for kind, path, what in faults_of(list(paths.values())):
        faulty.add(path)
        yield Finding("error", kind, path.relative_to(root).as_posix(), what)
    for key, path in paths.items():
        if path not in faulty and file_digest(path) != row["sha256"][key]:
            what = "has changed since it was prepared: its sha256 is another"
            yield Finding("error", "changed-file", row[key], what)
            yield from _size_findings(row, path, row[key])


def _size_findings(row: Mapping[str, Any], path: Path, name: str) -> Iterator[Finding]:
    expected, found = (row["width"], row["height"]), size_of(path)
    if found != expected:
        sizes = f"{found and found[0]}x{found and found[1]}"
        what = f"is {sizes}, the list says {expected[0]}x{expected[1]}"
        yield Finding("error", "size-mismatch", name, what)


def _against_description(dataset: PreparedDataset, report: Report) -> Iterator[Finding]:
    """The histogram that was counted now and the one recorded when the data was prepared."""
    for split, recorded in dataset.description["class_histogram"].items():
        if report.histogram.get(split) != recorded:
            what = "the class histogram of its files is not the one in dataset.json"
            yield Finding("error", "histogram", split, what)
