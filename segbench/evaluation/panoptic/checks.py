"""COCO panoptic JSON, checked completely before a PNG is read.

panopticapi lets several faults pass and gives a number: the last of two annotations of one
image wins, a segment called 0 is void, an unknown category of an absent id is never seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

from segbench.core.errors import DataError
from segbench.core.types import Category, CategoryTable, ImageId
from segbench.evaluation.file_checks import (
    EXAMPLES,
    Entry,
    Rule,
    check,
    expect_list,
    is_finite,
    is_id,
    is_integer,
    lacks,
    shown,
)
from segbench.evaluation.panoptic.matching import OFFSET

Annotation = Mapping[str, Any]
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}")
"""A file name that needs no closer look."""


def read_annotations(content: Any, source: Path) -> list[Entry]:
    """Return the annotations of a COCO panoptic JSON with fields of the right kinds.

    Raises:
        DataError: Naming the file, every kind of fault, how often and the first three.
    """
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        found = type(content).__name__ if not isinstance(content, dict) else "none in it"
        raise DataError(f"{source}: expected an object with a list 'annotations', found {found}")
    expect_list(annotations, source, "annotations")
    required = lacks("image_id", "file_name", "segments_info")
    problem = "lack one of image_id, file_name, segments_info"
    check(annotations, source, "annotations", {problem: required})
    rules: dict[str, Rule] = {
        "have an image_id that is no integer or text": _bad_image,
        "have a file_name that is no name of a file inside the folder of PNGs": bad_file,
        "have a segments_info that is no list of objects": bad_list,
    }
    check(annotations, source, "annotations", rules)
    return annotations


def _bad_image(entry: Entry) -> str | None:
    return None if is_id(entry["image_id"]) else f"image_id {shown(entry['image_id'])}"


def bad_file(entry: Entry) -> str | None:
    """Say what is wrong with the file name of an annotation; None where nothing is."""
    name = entry["file_name"]
    if isinstance(name, str) and _PLAIN_NAME.fullmatch(name):
        return None
    right = isinstance(name, str) and name and not PurePosixPath(name).is_absolute()
    right = right and ".." not in PurePosixPath(name).parts and "\0" not in name
    right = right and all(len(part.encode()) < 256 for part in PurePosixPath(name).parts)
    return None if right else f"file_name {shown(name)}"


def bad_list(entry: Entry) -> str | None:
    """Say what is wrong with the list of segments of an annotation; None where nothing is."""
    segments = entry["segments_info"]
    if not isinstance(segments, list):
        return f"found {type(segments).__name__}"
    wrong = [segment for segment in segments if not isinstance(segment, dict)]
    return f"found {shown(wrong[0])} in it" if wrong else None


def read_categories(truth: Mapping[str, Any], source: Path) -> CategoryTable:
    """Return the categories of a COCO JSON in file order."""
    expect_list(truth.get("categories"), source, "categories")
    wrong = [c["id"] for c in truth["categories"] if "id" in c and not is_integer(c["id"])]
    if wrong:
        first = ", ".join(shown(i) for i in wrong[:EXAMPLES])
        raise DataError(f"{source}: {len(wrong)} categories have an id that is no integer: {first}")
    odd = [c["isthing"] for c in truth["categories"] if c.get("isthing", 0) not in (0, 1)]
    if odd:
        first = ", ".join(shown(value) for value in odd[:EXAMPLES])
        raise DataError(
            f"{source}: {len(odd)} categories have an isthing that is not 0 or 1: {first}"
        )
    try:
        table = CategoryTable(tuple(_category(entry) for entry in truth["categories"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{source}: 'categories' must be a list of objects with id, name and isthing "
            f"({type(error).__name__}: {error})"
        ) from error
    refuse_repeated(list(table.category_ids), source, what="category")
    return table


def _category(entry: Mapping[str, Any]) -> Category:
    color = tuple(entry.get("color", (0, 0, 0)))
    return Category(entry["id"], entry["name"], entry["isthing"] == 1, (*color[:3],))  # type: ignore[arg-type]


def check_segments(
    annotations: Sequence[Entry], source: Path, *, known: Sequence[int], truth: bool
) -> None:
    """Check the segments of all images.

    Args:
        annotations: What ``read_annotations`` returned.
        source: The file, named in errors.
        known: Category ids of the ground truth.
        truth: Whether ``iscrowd`` is due and ``area`` has to be right where it is given.

    Raises:
        DataError: Naming the file, every kind of fault, how often and the first three.
    """
    categories = set(known)
    annotations = [
        a for a in annotations if not plainly_right(a["segments_info"], categories, truth)
    ]

    def unknown(entry: Entry) -> str | None:
        value = entry["category_id"]
        right = is_integer(value) and value in categories
        return None if right else f"category_id {shown(value)}"

    side = "true segments" if truth else "segments"
    fields = ("id", "category_id", "iscrowd") if truth else ("id", "category_id")
    first = ", ".join(str(i) for i in known[:5])
    fix = f"use the category ids of the truth, which start {first}, and segment ids from 1"
    rules: dict[str, Rule] = {"lack a field": _lacks_quoted(*fields)}
    check(_segments(annotations), source, side, rules, fix=fix, name=_name)
    rules = {
        f"have an id that is no integer from 1 to {OFFSET - 1} (0 is void)": _bad_id,
        "repeat the id of an earlier one of their image": _repeated(),
        "have an unknown category": unknown,
    }
    if truth:
        rules["have an iscrowd that is not 0 or 1"] = _bad_crowd
        rules["have an impossible area"] = _bad_area
    check(_segments(annotations), source, side, rules, fix=fix, name=_name)


def plainly_right(segments: Sequence[Entry], categories: Set[int], truth: bool) -> bool:
    """Whether no rule can find a fault in an image's segments; most need no closer look."""
    ids = set()
    for segment in segments:
        number, category = segment.get("id"), segment.get("category_id")
        if type(number) is not int or type(category) is not int:
            return False
        if not 0 < number < OFFSET or category not in categories:
            return False
        if truth and not _plain_truth(segment):
            return False
        ids.add(number)
    return len(ids) == len(segments)


def _plain_truth(segment: Entry) -> bool:
    area = segment.get("area", 0)
    crowd = segment.get("iscrowd")
    return type(crowd) is int and crowd in (0, 1) and type(area) is int and 0 <= area < 2**62


def _segments(annotations: Sequence[Entry]) -> Iterator[Entry]:
    """Yield each segment with its image's id under a key no file has."""
    for annotation in annotations:
        for segment in annotation["segments_info"]:
            yield {**segment, "": annotation["image_id"]}


def _name(_: int, segment: Entry) -> str:
    return f"image {segment['']} segment {shown(segment.get('id'))}"


def _lacks_quoted(*fields: str) -> Rule:
    def rule(entry: Entry) -> str | None:
        missing = [field for field in fields if field not in entry]
        return f"has no '{missing[0]}'" if missing else None

    return rule


def _bad_id(entry: Entry) -> str | None:
    right = is_integer(entry["id"]) and 0 < entry["id"] < OFFSET
    return None if right else f"of category {shown(entry['category_id'])}"


def _repeated() -> Rule:
    seen: set[Any] = set()

    def rule(entry: Entry) -> str | None:
        if not is_id(entry["id"]):
            return None
        key = (entry[""], entry["id"])
        if key in seen:
            return "is repeated"
        seen.add(key)
        return None

    return rule


def _bad_crowd(entry: Entry) -> str | None:
    return None if entry["iscrowd"] in (0, 1) else f"has the iscrowd {shown(entry['iscrowd'])}"


def _bad_area(entry: Entry) -> str | None:
    area = entry.get("area", 0)
    return None if is_finite(area) and area >= 0 else f"has the area {shown(area)}"


def check_files(annotations: Sequence[Annotation], folder: Path, *, option: str) -> None:
    """Refuse a folder that lacks PNGs of its annotations; ``option`` is how to give it.

    Raises:
        DataError: Naming the folder, how many files are missing and the first three.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder of panoptic PNGs",
            fix=f"name the folder with {option}; the default is the JSON's path without .json",
        )
    names = [annotation["file_name"] for annotation in annotations]
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(names)} listed PNGs do not exist, first "
            f"{', '.join(missing[:EXAMPLES])}",
            fix="a partial result is never scored: write every PNG that the JSON lists",
        )


def refuse_repeated(ids: list[Any], source: Path, *, what: str = "image") -> None:
    """Refuse entries that have the id of an earlier one."""
    seen: set[Any] = set()
    repeated = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    if repeated:
        raise DataError(
            f"{source}: {len(repeated)} entries repeat the {what} of an earlier one, "
            f"first ids {repeated[:3]}"
        )


def refuse_missing(
    annotations: Sequence[Annotation],
    predictions: Mapping[ImageId, Annotation],
    source: Path,
) -> None:
    """Refuse a file without predictions of some images."""
    missing = [a["image_id"] for a in annotations if a["image_id"] not in predictions]
    if missing:
        there = f"; it has {len(predictions)} others, first {list(predictions)[:EXAMPLES]}"
        raise DataError(
            f"{source}: no prediction for {len(missing)} of {len(annotations)} images, "
            f"first ids {missing[:EXAMPLES]}{there if len(missing) == len(annotations) else ''}",
            fix="predict every image of the split; a part of it is never scored",
        )
