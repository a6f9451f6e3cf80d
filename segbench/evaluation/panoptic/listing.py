"""COCO panoptic JSON read for counting: segments are read where their image is counted.

Reading a listing takes a small part of the time that reading all segments takes, and it is all
that is left to one process. What is read here passes every rule of ``panoptic_checks``. Whatever is
wrong or unusual raises ``UnusualError``: the files are then read again by ``panoptic_checks``,
which names every fault.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec import MsgspecError, Raw, Struct, json

from segbench.core.errors import DataError
from segbench.core.types import CategoryTable, ImageId
from segbench.evaluation.file_checks import Entry, is_id
from segbench.evaluation.panoptic.checks import (
    bad_file,
    bad_list,
    check_segments,
    plainly_right,
    read_categories,
)

_FAILURES = (
    *(DataError, MsgspecError, KeyError),
    *(OSError, OverflowError, RecursionError, ValueError),
)
"""Among them a file that is not there, no prediction, deep nesting, text that is no UTF-8."""


class UnusualError(Exception):
    """Something that ``panoptic_checks`` has to look at."""


class Listed(Struct, frozen=True, gc=False):
    """One image of a COCO panoptic JSON; its segments are JSON until somebody needs them."""

    image_id: ImageId
    file_name: str
    segments_info: Raw


class _Predictions(Struct):
    annotations: list[Listed]


class _Truth(_Predictions):
    categories: Raw


_Kind = TypeVar("_Kind", bound=_Predictions)


@dataclass(frozen=True)
class Listing:
    """Truths and the prediction of each; ``known`` are the ids of the categories."""

    truths: Sequence[Listed]
    predictions: Sequence[Listed]
    categories: CategoryTable
    known: frozenset[int]

    def pair(self, position: int) -> tuple[Entry, Entry]:
        """Return truth and prediction of an image, segments and all.

        Raises:
            UnusualError: Their segments break a rule.
        """
        truth, prediction = self.truths[position], self.predictions[position]
        return self._read(truth, truth=True), self._read(prediction, truth=False)

    def _read(self, image: Listed, *, truth: bool) -> Entry:
        try:
            segments = _segments(image)
            entry = {**_named(image), "segments_info": segments}
            if not plainly_right(segments, self.known, truth):
                check_segments([entry], Path(), known=sorted(self.known), truth=truth)
        except _FAILURES as error:
            raise UnusualError from error
        return entry


def read_listing(files: tuple[Path, Path], folders: tuple[Path, Path]) -> Listing:
    """Return the images of a ground truth's file and a prediction's, whose PNGs are in the folders.

    Raises:
        UnusualError: Anything in them is wrong or unusual, segments apart.
    """
    try:
        truth, predicted = _decode(files[0], _Truth), _decode(files[1], _Predictions)
        categories = read_categories({"categories": json.decode(truth.categories)}, files[0])
        by_id = {each.image_id: each for each in predicted.annotations}
        _expect(truth.annotations and len(by_id) == len(predicted.annotations))
        _expect(len({each.image_id for each in truth.annotations}) == len(truth.annotations))
        for each in (*truth.annotations, *predicted.annotations):
            _expect(is_id(each.image_id) and bad_file(_named(each)) is None)
        predictions = [by_id.pop(each.image_id) for each in truth.annotations]
        for each in by_id.values():  # of no image of the truth, but right all the same
            _segments(each)
        for images, folder in zip((truth.annotations, predictions), folders, strict=True):
            _expect_files(images, folder)
    except _FAILURES as error:
        raise UnusualError from error
    known = frozenset(categories.category_ids)
    return Listing(truth.annotations, predictions, categories, known)


def _named(image: Listed) -> Entry:
    return {"image_id": image.image_id, "file_name": image.file_name}


def _decode(path: Path, kind: type[_Kind]) -> _Kind:
    content = Path(path).read_bytes()
    if not content.isascii():
        content.decode("utf-8")  # the parser does not look into what it passes over
    return json.decode(content, type=kind)


def _expect(right: object) -> None:
    if not right:
        raise UnusualError


def _segments(image: Listed) -> list[Entry]:
    segments: list[Entry] = json.decode(image.segments_info)
    _expect(bad_list({"segments_info": segments}) is None)
    return segments


def _expect_files(images: Sequence[Listed], folder: Path) -> None:
    with os.scandir(folder) as entries:
        there = {entry.name for entry in entries if not entry.is_symlink()}
    _expect(all(i.file_name in there or (folder / i.file_name).exists() for i in images))
