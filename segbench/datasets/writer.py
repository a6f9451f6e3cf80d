"""From a raw folder or a generator to the prepared form of :mod:`segbench.prepared`.

Preparing can be killed at any moment: each finished image is a line of a journal in the
folder, the next attempt goes on after the last whole line, and ``dataset.json`` is written
last of all. The journal stays: it marks the folder as ours when a workflow has taken
``dataset.json`` away to make it again. A complete folder is left alone as long as the
options, the content of the raw files and the code that reads them are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.datasets.build import (
    FOLDERS,
    JOURNAL,
    SHOWN_FINDINGS,
    Splits,
    image_key,
    open_journal,
    write_images,
)
from segbench.datasets.documents import describe, write_documents
from segbench.datasets.registry import dataset_module, dataset_source
from segbench.datasets.source import SourceImage
from segbench.errors import ConfigError, DataError, did_you_mean
from segbench.formats import read_json, read_jsonl, write_json
from segbench.prepared import SCHEMA, PreparedDataset
from segbench.progress import say
from segbench.provenance import code_fingerprint, file_digest, json_digest
from segbench.types import DatasetInfo


def prepare_dataset(
    name: str,
    out: Path,
    *,
    raw: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> PreparedDataset:
    """Write a dataset in the prepared form, or leave a complete and current folder alone.

    Args:
        name: A dataset of :func:`segbench.datasets.dataset_infos`.
        out: Folder of the prepared form.
        raw: Folder the user supplies, as ``DatasetInfo.layout`` says; None for generators.
        options: Options of the dataset; the others keep their defaults.

    Raises:
        ConfigError: An unknown dataset or option, or a value an option cannot have.
        DataError: The raw folder is missing or broken (every finding is listed), or ``out``
            holds something else.
    """
    module, out = dataset_module(name), Path(out)
    info = module.INFO
    settings = resolve_options(info, options or {})
    folder = _raw_folder(info, raw)
    splits = {split: items for split, items in module.sources(folder, settings).items() if items}
    _refuse_duplicates(name, splits)
    request = _request_digest(name, settings, splits=splits, raw=folder)
    if not _is_current(out, request):
        _refuse_foreign(out, name, raw=folder)
        _build(info, out, splits=splits, options=settings, request=request)
    return PreparedDataset.open(out)


def resolve_options(info: DatasetInfo, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option with its value; the default's type is the type of an option.

    Raises:
        ConfigError: Naming the unknown option or the value of a wrong type.
    """
    for key, value in options.items():
        if key not in info.options:
            known = ", ".join(info.options) or "none"
            raise ConfigError(
                f"dataset '{info.name}' has no option '{key}'.{did_you_mean(key, info.options)}",
                fix=f"its options: {known}",
            )
        expected = type(info.options[key])
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ConfigError(
                f"dataset '{info.name}', option '{key}': expected {expected.__name__}, "
                f"found {value!r}"
            )
    merged = {**info.options, **options}
    return {k: float(v) if type(info.options[k]) is float else v for k, v in merged.items()}


def verify_prepared(dataset: PreparedDataset) -> None:
    """Compare every file of a prepared dataset with its recorded sha256.

    Raises:
        DataError: Listing the files that are missing or changed.
    """
    wrong = [
        row[key]
        for split in dataset.description["splits"]
        for row in read_jsonl(dataset.root / f"{split}.jsonl")
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
    if raw is None or not Path(raw).expanduser().is_dir():
        found = "no raw folder was given" if raw is None else f"{raw} is not a folder"
        raise DataError(
            f"dataset '{info.name}' is read from a folder you supply; {found}. {info.layout}",
            fix=f"segbench prepare {info.name} --raw <folder>, or datasets: {info.name}: raw: "
            f"in the configuration; the data: {info.homepage}",
        )
    return Path(raw).expanduser()


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
    inputs = {
        split: [[item.stem, item.image_id, *_file_digests(item, raw)] for item in items]
        for split, items in splits.items()
    }
    code = code_fingerprint([dataset_source(name), Path(__file__)])
    return json_digest([SCHEMA, name, dict(options), inputs, code])


def _file_digests(item: SourceImage, raw: Path | None) -> list[list[str]]:
    return [
        [
            path.relative_to(raw).as_posix() if raw else path.name,
            file_digest(path) if path.is_file() else "missing",
        ]
        for path in item.files
    ]


def _is_current(out: Path, request: str) -> bool:
    """Tell whether a folder is complete, of this request, and has all its files."""
    if not (out / "dataset.json").is_file():
        return False
    description = read_json(out / "dataset.json")
    if description.get("schema") != SCHEMA or description.get("request") != request:
        return False
    lists = [out / f"{split}.jsonl" for split in description["splits"]]
    return all(path.is_file() for path in lists) and all(
        (out / row[key]).is_file()
        for path in lists
        for row in read_jsonl(path)
        for key in row["sha256"]
    )


def _refuse_foreign(out: Path, name: str, *, raw: Path | None) -> None:
    """Never clear a folder that is not a prepared form of this dataset."""
    fix = "choose another --out folder"
    if raw is not None and (
        out.resolve() == raw.resolve() or raw.resolve() in out.resolve().parents
    ):
        raise DataError(f"{out} lies in the raw folder {raw}", fix=fix)
    if (out / "dataset.json").is_file():
        found = read_json(out / "dataset.json").get("name")
        if found != name:
            raise DataError(f"{out} holds the dataset '{found}', not '{name}'", fix=fix)
    elif not (out / JOURNAL).is_file():
        taken = [folder for folder in FOLDERS if (out / folder).exists()]
        if taken:
            raise DataError(f"{out} already has {', '.join(taken)} from somewhere else", fix=fix)


def _build(
    info: DatasetInfo, out: Path, *, splits: Splits, options: Mapping[str, Any], request: str
) -> None:
    _announce_partial(info, splits)
    with open_journal(out, request) as journal:
        write_images(info, out, splits=splits, journal=journal)
        entries = {
            split: [journal.done[image_key(split, item)] for item in items]
            for split, items in splits.items()
        }
    for split, found in entries.items():
        write_documents(info, out, split=split, entries=found)
    write_json(out / "dataset.json", describe(info, entries, options=options, request=request))


def _announce_partial(info: DatasetInfo, splits: Splits) -> None:
    for split, official in info.splits.items():
        found = len(splits.get(split, ()))
        if official is not None and found != official:
            say(
                f"warning: {info.name} {split}: {found} images, the official split has {official}; "
                "scores on it do not compare with published ones"
            )
