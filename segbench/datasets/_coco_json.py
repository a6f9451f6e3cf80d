"""COCO's two annotation files, panoptic and instances, as images with their truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from segbench.datasets.id_runs import relabel, thing_annotations
from segbench.datasets.source import RawImage, SourceImage, files_by_stem
from segbench.errors import DataError
from segbench.formats import read_image, read_json, read_panoptic_ids
from segbench.types import IGNORE_INDEX, CategoryTable, IntArray, PanopticMap, Segment

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
    content = _document(document, ("images", "annotations"))
    by_id = {_field(image, "id", document): image for image in content["images"]}
    objects = None if instances is None else _objects_by_image(instances, by_id)
    found: list[SourceImage] = []
    for annotation in content["annotations"]:
        image_id = _field(annotation, "image_id", document)
        if image_id not in by_id:
            raise DataError(f"{document}: an annotation is of image {image_id!r}, not among images")
        image = by_id[image_id]
        files = (images / image["file_name"], segmentations / annotation["file_name"])
        load = partial(
            _load, *files, image, annotation["segments_info"],
            None if objects is None else objects.get(image_id, []), table,
        )  # fmt: skip
        found.append(SourceImage(Path(image["file_name"]).stem, load, files, image_id))
    return [*found, *_strays(images, {item.stem for item in found}, document)]


def _document(path: Path, keys: Sequence[str]) -> Json:
    content = read_json(path)
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: expected a JSON object with a list '{key}'")
    return dict(content)


def _field(entry: Any, key: str, path: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(f"{path}: expected entries with '{key}', found {str(entry)[:80]}")
    return entry[key]


def _objects_by_image(path: Path, images: Mapping[Any, Json]) -> dict[Any, list[Json]]:
    """Return the annotations of an instances JSON by image."""
    found: dict[Any, list[Json]] = defaultdict(list)
    for annotation in _document(path, ("annotations",))["annotations"]:
        found[_field(annotation, "image_id", path)].append(annotation)
    unknown = [image_id for image_id in found if image_id not in images]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} images of its annotations are not in the panoptic file: "
            f"{unknown[:3]}",
            fix="take both files of the same split",
        )
    return found


def _strays(images: Path, listed: set[str], document: Path) -> Iterator[SourceImage]:
    for stem, path in files_by_stem(images).items():
        if stem not in listed:
            yield SourceImage(stem, partial(_refuse_stray, path, document), (path,))


def _refuse_stray(path: Path, document: Path) -> RawImage:
    raise DataError(f"{path.name} has no annotation in {document.name}")


def _load(
    image_file: Path,
    png: Path,
    image: Json,
    segments_info: Sequence[Json],
    objects: Sequence[Json] | None,
    table: CategoryTable,
) -> RawImage:
    size = (int(image["height"]), int(image["width"]))
    found = read_image(image_file).shape[:2]
    if found != size:
        raise DataError(
            f"{image_file.name} is {found[1]}x{found[0]}, its JSON says {size[1]}x{size[0]}"
        )
    ids = read_panoptic_ids(png)
    if ids.shape != size:
        raise DataError(
            f"{png.name} is {ids.shape[1]}x{ids.shape[0]}, the image {size[1]}x{size[0]}"
        )
    panoptic = PanopticMap(ids, tuple(_segment(entry, table, png) for entry in segments_info))
    return RawImage(
        image=image_file,
        size=size,
        semantic=semantic_of(panoptic),
        panoptic=panoptic,
        annotations=(
            thing_annotations(panoptic, table)
            if objects is None
            else [published(o, size, table) for o in objects]
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
