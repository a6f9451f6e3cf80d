"""COCO's two annotation files, panoptic and instances, as images with their ground truth."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from segbench.core.errors import DataError
from segbench.core.types import IGNORE_INDEX, CategoryTable, IntArray, PanopticMap, Segment
from segbench.datasets.reading.id_runs import relabel, thing_annotations
from segbench.datasets.reading.json_lists import iter_lists, plain_text, read_entries
from segbench.datasets.source import RawImage, SourceImage, files_by_stem, require_size
from segbench.formats.label_maps import read_image, read_panoptic_ids

Json = dict[str, Any]


def panoptic_sources(
    document: Path,
    segmentations: Path,
    images: Path,
    *,
    table: CategoryTable,
    instances: Path | None = None,
) -> list[SourceImage]:
    """Return the images of a COCO panoptic split, in the order of its annotations.

    Args:
        document: The panoptic JSON.
        segmentations: Folder of its PNGs.
        images: Folder of the photographs; one that the JSON does not list is a finding.
        table: The classes; category ids of both JSON files are theirs.
        instances: The COCO instances JSON of the same images; None takes the things of the
            panoptic truth, which do not overlap.

    Raises:
        DataError: A JSON file is missing, broken or contradicts itself.
    """
    listed, annotations = _panoptic_document(document)
    documents, objects = [document], None
    if instances is not None:
        documents.append(instances)
        objects = _objects_by_image(instances, listed)
    found: list[SourceImage] = []
    for image_id, file_name, place in annotations:
        if image_id not in listed:
            raise DataError(f"{document}: an annotation is of image {image_id!r}, not among images")
        image = listed[image_id]
        files = (images / image.file_name, segmentations / file_name)
        load = partial(
            _load, *files, image.size, (document, place),
            None if objects is None else (documents[-1], objects.get(image_id, ())), table,
        )  # fmt: skip
        stem = Path(image.file_name).stem
        found.append(SourceImage(stem, load, (*files, *documents), image_id))
    return [*found, *_strays(images, {item.stem for item in found}, document)]


Places = Sequence[int]
"""Where entries stand in their document: begin, length, begin, length, ..."""


@dataclass(frozen=True)
class _Listed:
    """An image as its document lists it; ``size`` is height and width."""

    file_name: str
    size: tuple[int, int]


def _panoptic_document(path: Path) -> tuple[dict[Any, _Listed], list[tuple[Any, str, Places]]]:
    """Return the images of a panoptic JSON by id and, of each annotation, image, PNG, place."""
    images: dict[Any, _Listed] = {}
    annotations: list[tuple[Any, str, Places]] = []
    for entry in iter_lists(path, ("images", "annotations")):
        if entry.key == "images":
            size = (
                int(_field(entry.value, "height", path)),
                int(_field(entry.value, "width", path)),
            )
            name = plain_text(_field(entry.value, "file_name", path))
            images[_field(entry.value, "id", path)] = _Listed(name, size)
        elif entry.key == "annotations":
            name = plain_text(_field(entry.value, "file_name", path))
            _field(entry.value, "segments_info", path)
            place = (entry.begin, entry.length)
            annotations.append((_field(entry.value, "image_id", path), name, place))
    return images, annotations


def _field(entry: Any, key: str, path: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(f"{path}: expected entries with '{key}', found {str(entry)[:80]}")
    return entry[key]


def _objects_by_image(path: Path, images: Mapping[Any, _Listed]) -> dict[Any, Places]:
    """Return where the annotations of each image stand in an instances JSON."""
    found: dict[Any, array[int]] = {}
    for entry in iter_lists(path, ("annotations",)):
        if entry.key == "annotations":
            image_id = _field(entry.value, "image_id", path)
            found.setdefault(image_id, array("q")).extend((entry.begin, entry.length))
    unknown = [image_id for image_id in found if image_id not in images]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} images of its annotations are not in the panoptic file: "
            f"{unknown[:3]}",
            fix="take both files of the same split",
        )
    return dict(found)


def _strays(images: Path, listed: set[str], document: Path) -> Iterator[SourceImage]:
    for stem, path in files_by_stem(images).items():
        if stem not in listed:
            yield SourceImage(stem, partial(_refuse_stray, path, document), (path,))


def _refuse_stray(path: Path, document: Path) -> RawImage:
    raise DataError(f"{path.name} has no annotation in {document.name}")


def _load(
    image_file: Path,
    png: Path,
    size: tuple[int, int],
    annotation: tuple[Path, Places],
    objects: tuple[Path, Places] | None,
    table: CategoryTable,
) -> RawImage:
    (listed,) = read_entries(*annotation)
    require_size(read_image(image_file), image_file, size, image="its JSON says")
    ids = read_panoptic_ids(png)
    require_size(ids, png, size)
    panoptic = PanopticMap(
        ids, tuple(_segment(entry, table, png) for entry in listed["segments_info"])
    )
    return RawImage(
        image=image_file,
        size=size,
        semantic=semantic_of(panoptic),
        panoptic=panoptic,
        annotations=(
            thing_annotations(panoptic, table)
            if objects is None
            else [published(o, size, table) for o in read_entries(*objects)]
        ),
    )


def _segment(entry: Json, table: CategoryTable, png: Path) -> Segment:
    try:
        label = table.train_id(entry["category_id"])
        number, area = int(entry["id"]), int(entry["area"])
    except KeyError as error:
        raise DataError(
            f"{png.name}: a segment has an unknown category or lacks a field: {error}"
        ) from error
    isthing = table.categories[label].isthing
    return Segment(number, label, isthing, area, bool(entry.get("iscrowd", 0)))


def semantic_of(panoptic: PanopticMap) -> IntArray:
    """Return train ids of a panoptic map, crowds included; 255 where it is void."""
    labels = {segment.id: segment.label for segment in panoptic.segments if segment.id}
    return relabel(panoptic.ids, labels, default=IGNORE_INDEX)


def published(annotation: Json, size: tuple[int, int], table: CategoryTable) -> Json:
    """Return a COCO annotation with its mask as compressed RLE; area and box stay as they are.

    Raises:
        DataError: An unknown category, or a segmentation that is none.
    """
    name = f"annotation {annotation.get('id', '?')}"
    try:
        table.train_id(annotation["category_id"])
        runs = _runs(annotation["segmentation"], size)
        area, box = float(annotation["area"]), [float(value) for value in annotation["bbox"]]
    except KeyError as error:
        raise DataError(f"{name}: unknown category or missing field {error}") from error
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{name}: its segmentation, area or box is malformed: {error}") from error
    return {
        "category_id": annotation["category_id"],
        "segmentation": {"size": list(size), "counts": runs["counts"].decode("ascii")},
        "area": area,
        "bbox": box,
        "iscrowd": int(annotation["iscrowd"]),
    }


def _runs(segmentation: Any, size: tuple[int, int]) -> Json:
    """Return compressed RLE of polygons or of runs, as pycocotools' ``annToRLE`` does."""
    from pycocotools import mask as coco_mask  # here, because listing datasets needs none

    if isinstance(segmentation, list):
        if not segmentation or any(len(polygon) < 6 for polygon in segmentation):
            raise ValueError("expected polygons of three points or more")
        return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size)))
    if list(segmentation["size"]) != list(size):
        raise ValueError(f"RLE of {segmentation['size']}, the image is {list(size)}")
    if isinstance(segmentation["counts"], list):
        if sum(segmentation["counts"]) != size[0] * size[1]:
            raise ValueError("RLE whose runs do not cover the image")
        return dict(coco_mask.frPyObjects(segmentation, *size))
    counts = segmentation["counts"]
    return {"counts": counts.encode("ascii") if isinstance(counts, str) else counts}
