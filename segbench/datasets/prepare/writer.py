"""From a raw folder or a generator to the prepared form of :mod:`segbench.formats.prepared`.

Preparing can be killed at any moment: each finished image is a line of a journal in the
folder, the next attempt goes on after the last whole line, and ``dataset.json`` is written
last of all. The journal stays: it marks the folder as ours when a workflow has taken
``dataset.json`` away to make it again. A complete folder is left alone as long as the
options, the content of the raw files and the code that reads them are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from segbench.core.errors import ConfigError, DataError
from segbench.core.files import iter_jsonl, read_json, write_json
from segbench.core.fingerprint import code_fingerprint
from segbench.core.folder_lock import sole_writer
from segbench.core.older_folders import json_object
from segbench.core.paths import Input, given, output_place
from segbench.core.pool import in_threads
from segbench.core.progress import say
from segbench.core.provenance import file_digest
from segbench.core.types import DatasetInfo
from segbench.datasets.options import check_options
from segbench.datasets.prepare.build import (
    SHOWN_FINDINGS,
    BadImage,
    Splits,
    image_jobs,
    numbers_of,
    refuse,
    write_images,
)
from segbench.datasets.prepare.documents import ContentDigest, describe, write_documents
from segbench.datasets.prepare.facts import Finding, SplitFacts, split_findings
from segbench.datasets.prepare.journal import Journal, foreign_files, open_journal
from segbench.datasets.registry import dataset_module, dataset_source
from segbench.datasets.source import SourceImage
from segbench.formats.prepared import SCHEMA, PreparedDataset

BadImages = Literal["fail", "skip"]
"""What becomes of images that cannot be used."""


def prepare_dataset(
    name: str,
    out: Path,
    *,
    raw: Path | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int = 1,
    bad_images: BadImages = "fail",
) -> PreparedDataset:
    """Write a dataset in the prepared form, or leave a complete and current folder alone.

    Args:
        name: A dataset of :func:`segbench.datasets.dataset_infos`.
        out: Folder of the prepared form.
        raw: Folder the user supplies, as ``DatasetInfo.layout`` says; None for generators.
        options: Options of the dataset; the others keep their defaults.
        workers: Processes that read and write images; the files are the same whatever it is.
        bad_images: ``skip`` leaves images out that cannot be used and lists them in
            ``dataset.json``; ``fail`` refuses the dataset.

    Raises:
        ConfigError: An unknown dataset or option, a value an option cannot have, or ``out``
            holds something else.
        DataError: The raw folder is missing or broken (every finding is listed).
    """
    out = Path(out)
    output_place(out)
    info, settings, folder, splits = open_sources(name, raw=raw, options=options or {})
    request = _request_digest(name, settings, splits=splits, raw=folder)
    if not _is_current(out, request, bad_images):
        _refuse_foreign(out, info, splits, raw=folder)
        with sole_writer(out.resolve()):
            if not _is_current(out, request, bad_images):
                _refuse_foreign(out, info, splits, raw=folder)
                _Build(info, out, splits, settings, request, workers, bad_images).run()
    return PreparedDataset.open(out)


def open_sources(
    name: str, *, raw: Path | None, options: Mapping[str, Any]
) -> tuple[DatasetInfo, dict[str, Any], Path | None, Splits]:
    """Return a dataset, its options, its raw folder and the images of the splits that have any.

    Raises:
        ConfigError: See :func:`prepare_dataset`.
        DataError: The raw folder is missing or is not one of this dataset.
    """
    module = dataset_module(name)
    settings = check_options(module.INFO, options)
    folder = _raw_folder(module.INFO, raw)
    splits = {split: items for split, items in module.sources(folder, settings).items() if items}
    _refuse_duplicates(name, splits)
    return module.INFO, settings, folder, splits


def verify_prepared(dataset: PreparedDataset) -> None:
    """Compare every file of a prepared dataset with its recorded sha256.

    Raises:
        DataError: Listing the files that are missing or changed.
    """
    wrong = [
        row[key]
        for split in dataset.description["splits"]
        for row in iter_jsonl(dataset.root / f"{split}.jsonl")
        for key, sha256 in row["sha256"].items()
        if not (dataset.root / row[key]).is_file() or file_digest(dataset.root / row[key]) != sha256
    ]
    if wrong:
        raise DataError(
            f"{dataset.root}: {len(wrong)} files are missing or changed: "
            + ", ".join(wrong[:SHOWN_FINDINGS]),
            fix=f"delete {dataset.description_file} and prepare the dataset again: "
            "only these files are written anew",
        )


def _raw_folder(info: DatasetInfo, raw: Path | None) -> Path | None:
    if not info.layout:
        if raw is not None:
            raise ConfigError(f"dataset '{info.name}' is generated and takes no raw folder")
        return None
    raw = raw or info.folder
    folder = None if raw is None else given(raw, "raw")
    if folder is None or not folder.is_dir():
        found = "no raw folder was given" if raw is None else f"{raw} is not a folder"
        first = f"segbench download {info.name} first, or " if info.archives else ""
        raise DataError(
            f"dataset '{info.name}' is read from a folder; {found}. {info.layout}",
            fix=f"{first}segbench prepare {info.name} --raw <folder>, or datasets: {info.name}: "
            f"raw: in the configuration; the data: {info.homepage}",
        )
    half = sorted([*folder.glob(".unpack-*"), *folder.glob("*/.unpack-*")])
    if half:
        place = half[0].parent
        name = info.name if place == folder else place.name
        raise DataError(
            f"{place} is not whole: {half[0].name.removeprefix('.unpack-')} is being unpacked, or "
            "was when a process was killed",
            fix=f"segbench download {name} --raw {place}",
        )
    return folder


def _refuse_duplicates(name: str, splits: Splits) -> None:
    if not splits:
        raise DataError(f"dataset '{name}' has no image in any split")
    for split, items in splits.items():
        twice = [stem for stem, n in Counter(item.stem for item in items).items() if n > 1]
        if twice:
            raise DataError(f"dataset '{name}', split '{split}', has two images named {twice[:3]}")


def _request_digest(
    name: str, options: Mapping[str, Any], *, splits: Splits, raw: Path | None
) -> str:
    """Return a digest of all that decides the result: code, options, content of raw files."""
    code = code_fingerprint([dataset_source(name), Path(__file__)])
    digest = hashlib.sha256(json.dumps([SCHEMA, name, dict(options), code]).encode())
    jobs = ((job.split, job.item, raw) for job in image_jobs(splits))
    # a document of many images is among the latest files each time and is read once
    remember = lru_cache(maxsize=256)(_digest_of)
    for text in in_threads(partial(_input_of, remember), jobs):
        digest.update(text)
    return digest.hexdigest()[:16]


def _input_of(
    digest_of: Callable[[Path], str], image: tuple[str, SourceImage, Path | None]
) -> bytes:
    """Return what identifies an image and the content of its files."""
    split, item, raw = image
    files = [
        [path.relative_to(raw).as_posix() if raw else path.name, digest_of(path)]
        for path in item.files
    ]
    return json.dumps([split, item.stem, item.image_id, files]).encode() + b"\n"


def _digest_of(path: Path) -> str:
    return file_digest(path) if path.is_file() else "missing"


def _is_current(out: Path, request: str, bad_images: BadImages) -> bool:
    """Tell whether a folder is complete, of this request, and has all its files."""
    if not (out / "dataset.json").is_file():
        return False
    description = read_json(out / "dataset.json")
    if description.get("schema") != SCHEMA or description.get("request") != request:
        return False
    if description.get("skipped") and bad_images == "fail":
        return False
    lists = [out / f"{split}.jsonl" for split in description["splits"]]
    return all(path.is_file() for path in lists) and all(
        (out / row[key]).is_file()
        for path in lists
        for row in iter_jsonl(path)
        for key in row["sha256"]
    )


def _refuse_foreign(out: Path, info: DatasetInfo, splits: Splits, *, raw: Path | None) -> None:
    """Never write into a folder that is not a prepared form of this dataset and nothing else."""
    inputs = () if raw is None else (Input(raw, "--raw"),)
    place = output_place(out, inputs=inputs)
    if not place.exists():
        return
    described = json_object(place / "dataset.json")
    names = {*splits, *info.splits, *described.get("splits", ())}
    foreign = foreign_files(place, names)
    if described and described.get("name") != info.name:
        problem = f"holds the dataset '{described.get('name')}', not '{info.name}'"
    elif foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        problem = f"already has {', '.join(foreign[:3])}{more} from somewhere else"
    else:
        return
    raise ConfigError(
        f"--out: {out} {problem}", fix="nothing was touched; choose another --out folder"
    )


@dataclass(frozen=True)
class _Build:
    """One run over a request, from the first image that is missing to ``dataset.json``."""

    info: DatasetInfo
    out: Path
    splits: Splits
    options: Mapping[str, Any]
    request: str
    workers: int
    bad_images: BadImages

    def run(self) -> None:
        total = sum(len(items) for items in self.splits.values())
        with open_journal(self.out, self.request, total) as journal:
            bad = write_images(
                self.info, self.out, splits=self.splits, journal=journal, workers=self.workers
            )
            if self.bad_images == "fail" or len(bad) == total:
                refuse(self.info.name, bad, total)
            self._complete(journal, bad)

    def _complete(self, journal: Journal, skipped: list[BadImage]) -> None:
        """Write the documents, check the whole and, when it is on the disk, ``dataset.json``."""
        digest = ContentDigest(self.info)
        facts = self._write_splits(journal, digest)
        findings = split_findings(
            facts, table=self.info.table, tasks=self.info.tasks, official=self.info.splits
        )
        _announce(self.info.name, findings)
        description = describe(
            self.info, facts, options=self.options, request=self.request, digest=digest.hexdigest()
        )
        description["checked"] = {"warnings": [finding.as_json() for finding in findings]}
        if skipped:
            description["skipped"] = [asdict(image) for image in skipped]
            say(f"warning: {self.info.name}: {len(skipped)} bad images are left out")
        os.sync()
        write_json(self.out / "dataset.json", description)

    def _write_splits(self, journal: Journal, digest: ContentDigest) -> dict[str, SplitFacts]:
        numbers = numbers_of(self.splits)
        kept = [split for split in numbers if any(n in journal for n in numbers[split])]
        facts = {
            split: write_documents(
                self.info, self.out, split=split, digest=digest,
                entries=partial(journal.entries, numbers[split]),
            )
            for split in sorted(kept)
        }  # fmt: skip
        return {split: facts[split] for split in kept}


def _announce(name: str, findings: list[Finding]) -> None:
    """Say the warnings; refuse a dataset with errors."""
    for finding in findings:
        if finding.level == "warning":
            say(f"warning: {name} {finding.where}: {finding.what}")
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(
            f"{name} cannot be used:\n  " + "\n  ".join(errors),
            fix="correct the raw folder and run the same command again",
        )
