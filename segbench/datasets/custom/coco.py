"""A user's COCO files: their categories compared with the YAML file, their images with truth."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.files import read_json
from segbench.core.types import CategoryTable
from segbench.datasets.custom.listing import IMAGE_KINDS, in_split, named_files, nothing
from segbench.datasets.custom.spec import CustomDataset
from segbench.datasets.reading.coco_json import panoptic_sources, published
from segbench.datasets.source import RawImage, SourceImage, instances_from_masks
from segbench.formats.label_maps import read_image

Json = dict[str, Any]


def coco_images(
    spec: CustomDataset, root: Path, split: str, table: CategoryTable, *, whole: bool
) -> list[SourceImage]:
    """Return the images of the COCO file of a split.

    Args:
        spec: The dataset.
        root: Its folder.
        split: The split whose folder stands for ``{split}``.
        table: The classes.
        whole: Whether the file should list every image of its folder.

    Raises:
        DataError: A file is missing or broken, or its categories are others.
    """
    assert spec.document is not None
    document = root / in_split(spec.document, split, spec)
    images = root / in_split(spec.images, split, spec)
    if not document.is_file() or not images.is_dir():
        missing = document if not document.is_file() else images
        raise nothing(root, missing.relative_to(root).as_posix())
    content = _document(document)
    _check_categories(content, document, spec)
    if spec.coco_panoptic is None:
        found = _instance_images(content, document, images, spec, table)
    else:
        found = panoptic_sources(
            document,
            root / in_split(spec.mask_pattern, split, spec),
            images,
            table=table,
            instances=_instances_file(spec, root, split),
        )
    if not found:
        raise DataError(f"{document} lists no image")
    strays = _strays(images, content, document) if whole and not spec.coco_panoptic else []
    first = replace(found[0], files=(*found[0].files, *_documents(spec, root, split)))
    return [first, *found[1:], *strays]


def _documents(spec: CustomDataset, root: Path, split: str) -> tuple[Path, ...]:
    """Return the files that all images of a split depend on."""
    given = (spec.coco_panoptic, spec.coco_instances)
    return tuple(root / in_split(path, split, spec) for path in given if path is not None)


def _instances_file(spec: CustomDataset, root: Path, split: str) -> Path | None:
    if spec.coco_instances is None:
        return None
    path = root / in_split(spec.coco_instances, split, spec)
    _check_categories(_document(path), path, spec, things_only=True)
    return path


def _document(path: Path) -> Json:
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise DataError(f"{path}: expected a COCO JSON object with a list '{key}' of objects")
    for image in content["images"]:
        lacking = [k for k in ("id", "file_name", "height", "width") if k not in image]
        if lacking:
            raise DataError(f"{path}: an image has no '{lacking[0]}': {str(image)[:80]}")
        parts = PurePosixPath(str(image["file_name"]))
        if parts.is_absolute() or ".." in parts.parts:
            raise DataError(
                f"{path}: '{image['file_name']}' is not inside the folder of the images",
                fix="write file names relative to it",
            )
    return dict(content)


def _check_categories(
    content: Json, document: Path, spec: CustomDataset, *, things_only: bool = False
) -> None:
    """Refuse categories that are not those of ``classes``, by number and by name."""
    listed = {c.get("id"): c for c in content["categories"]}
    used = {a.get("category_id") for a in content["annotations"]}
    used |= {
        s.get("category_id") for a in content["annotations"] for s in a.get("segments_info", ())
    }
    things = dict(zip(spec.classes, spec.things, strict=True))
    wanted = {number: name for name, number in spec.ids.items() if things[name] or not things_only}
    problems = [
        f"category {number} is '{listed[number].get('name')}' there, here '{name}'"
        if number in listed
        else f"it has no category {number} ('{name}')"
        for number, name in wanted.items()
        if number not in listed or listed[number].get("name") != name
    ]
    known = {None, *wanted, *spec.ignored}
    problems += [
        f"category {number} ('{entry.get('name')}') is not among classes"
        for number, entry in listed.items()
        if number not in known and number in used
    ]
    problems += [
        f"category {number} ('{name}') is {'stuff' if things[name] else 'things'} there"
        for number, name in wanted.items()
        if not problems and bool(listed[number].get("isthing", things[name])) != things[name]
    ]
    if problems:
        raise DataError(
            f"{document}: its categories are not the classes of the dataset's YAML file: "
            + "; ".join(problems[:5]),
            fix=f"classes: {_ready_made(listed, mark=spec.coco_panoptic is not None)}",
        )


def _ready_made(listed: Mapping[Any, Json], *, mark: bool) -> str:
    """Return the categories of a file as one would write them in YAML; ``mark`` the things.

    Number 0 is left out: some exports put a dummy there.
    """
    wanted = {number: entry for number, entry in listed.items() if number}
    entries = [
        f"{json.dumps(str(entry.get('name')), ensure_ascii=False)}: "
        + (f"{{id: {number}, thing: true}}" if mark and entry.get("isthing") else f"{number}")
        for number, entry in wanted.items()
    ]
    return "{" + ", ".join(entries) + "}"


def _instance_images(
    content: Json, document: Path, images: Path, spec: CustomDataset, table: CategoryTable
) -> list[SourceImage]:
    objects: dict[Any, list[Json]] = defaultdict(list)
    for annotation in content["annotations"]:
        if annotation.get("category_id") not in spec.ignored:
            objects[annotation.get("image_id")].append(annotation)
    known = {image["id"] for image in content["images"]}
    unknown = [number for number in objects if number not in known]
    if unknown:
        raise DataError(
            f"{document}: annotations are of images that it does not list: {unknown[:3]}"
        )
    return [
        SourceImage(
            Path(image["file_name"]).stem,
            partial(load_instances, path, image, objects.get(image["id"], []), table),
            (path,),
            image["id"] if isinstance(image["id"], int) else None,
        )
        for image in content["images"]
        for path in (images / image["file_name"],)
    ]


def load_instances(
    path: Path, image: Json, objects: Sequence[Json], table: CategoryTable
) -> RawImage:
    """Read an image; its objects keep the area and box of the file where it has them.

    Raises:
        DataError: The image is missing or broken, its size differs, or an object is malformed.
    """
    found = read_image(path).shape[:2]
    size = (int(image["height"]), int(image["width"]))
    if found != size:
        raise DataError(f"{path.name} is {found[1]}x{found[0]}, its JSON says {size[1]}x{size[0]}")
    from pycocotools import mask as coco_mask  # here, because listing datasets needs none

    annotations = [_published(annotation, size, table) for annotation in objects]
    masks = [coco_mask.decode(a["segmentation"]).astype(bool) for a in annotations]
    shown = [n for n, mask in enumerate(masks) if mask.any()]
    instances = instances_from_masks(
        np.array([masks[n] for n in shown], dtype=bool).reshape(-1, *size),
        [table.train_id(annotations[n]["category_id"]) for n in shown],
    )
    return RawImage(path, size, instances=instances, annotations=annotations)


def _published(annotation: Json, size: tuple[int, int], table: CategoryTable) -> Json:
    """Return an annotation with all its fields: what is not there is made of its mask."""
    from pycocotools import mask as coco_mask

    absent = {"iscrowd": 0, "area": 0.0, "bbox": [0.0] * 4}
    found = published({**absent, **annotation}, size, table)
    if "area" not in annotation:
        found["area"] = float(coco_mask.area(found["segmentation"]))
    if "bbox" not in annotation:
        found["bbox"] = [float(side) for side in coco_mask.toBbox(found["segmentation"])]
    return found


def _strays(images: Path, content: Json, document: Path) -> list[SourceImage]:
    """Return a finding for each image of the folder that the file does not list."""
    listed = {Path(image["file_name"]).stem for image in content["images"]}
    return [
        SourceImage(name, partial(_refuse_stray, path, document), (path,))
        for name, path in named_files(images, "", IMAGE_KINDS).items()
        if name not in listed
    ]


def _refuse_stray(path: Path, document: Path) -> RawImage:
    raise DataError(f"{path.name} is not among the images of {document.name}")
