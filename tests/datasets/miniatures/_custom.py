"""The folder that a dataset's YAML file describes, with a few tiny images in it.

Names of images are those of a camera; every split gets the same number of images, or
``IMAGES`` share one folder.
"""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from segbench.datasets import dataset_info
from segbench.datasets.custom.listing import expected_file, in_split
from segbench.datasets.custom.palette import colors_for
from segbench.datasets.registry import dataset_module
from segbench.formats.label_maps import id2rgb

from .scenes import save, scene

HEIGHT, WIDTH = 48, 64
IMAGES, PER_SPLIT = 12, 3


def build(name: str, folder: Path) -> None:
    """Write ``folder/raw`` as the dataset's YAML file says."""
    spec = dataset_module(name).spec
    build_folder(spec, folder / "raw")
    assert dataset_info(name).layout


def build_folder(spec, root: Path, *, images: int = IMAGES) -> None:
    """Write images with masks or COCO files that a dataset file describes."""
    if spec.by_folder:
        for number, split in enumerate(spec.split_names):
            _write(spec, root, split, range(number * PER_SPLIT, (number + 1) * PER_SPLIT))
        return
    _write(spec, root, "", range(images))
    for number, (_, listing) in enumerate(spec.splits.items()):
        if isinstance(listing, str):
            names = [_name(i) for i in range(images) if i % len(spec.splits) == number]
            (root / listing).parent.mkdir(parents=True, exist_ok=True)
            (root / listing).write_text("\n".join(names) + "\n")


def _name(number: int) -> str:
    return f"DSC_{number:04d}"


def _write(spec, root: Path, split: str, numbers) -> None:
    things = [i for i, is_thing in enumerate(spec.things) if is_thing]
    stuff = [i for i, is_thing in enumerate(spec.things) if not is_thing]
    if spec.tasks == ("semantic",):
        things, stuff = [], list(range(len(spec.classes)))
    scenes = [scene(n, HEIGHT, WIDTH, things=(things * 2)[:3], stuff=stuff) for n in numbers]
    entries = []
    for number, made in zip(numbers, scenes, strict=True):
        suffix = Path(spec.images).suffix if "*" in spec.images else ".jpg"
        path = expected_file(root, in_split(spec.images, split, spec), _name(number), suffix)
        save(path, made.image)
        entries.append({"id": number + 1, "file_name": path.name, "height": HEIGHT, "width": WIDTH})
        if spec.document is None:
            masks = in_split(_masks(spec), split, spec)
            save(expected_file(root, masks, _name(number), ".png"), _mask(spec, made))
    if spec.document is not None:
        _write_coco(spec, root, split, entries, scenes)


def _masks(spec) -> str:
    return spec.mask_pattern if spec.masks or not spec.by_folder else spec.mask_pattern + "/{split}"


def _mask(spec, made):
    if spec.mask_format == "instance_ids":
        return made.instances
    if spec.mask_format == "index":
        return np.array(list(spec.ids.values()))[made.labels]
    colors = colors_for([entry.color for entry in spec.classes.values()])
    return np.array(colors)[made.labels]


def _write_coco(spec, root: Path, split: str, images, scenes) -> None:
    ids = list(spec.ids.values())
    categories = [
        {"id": number, "name": name, "isthing": int(thing)}
        for name, number, thing in zip(spec.classes, ids, spec.things, strict=True)
    ]
    objects, panoptic = [], []
    for image, made in zip(images, scenes, strict=True):
        segments = made.labels + 1
        for number, code in enumerate(made.codes, start=1):
            mask = made.instances == number
            segments[mask] = 100 + number
            objects.append({
                "id": len(objects) + 1, "image_id": image["id"], "category_id": ids[code],
                **_object(mask), "iscrowd": 0,
            })  # fmt: skip
        info = [
            {"id": int(s), "category_id": ids[made.codes[s - 101] if s > 100 else s - 1],
             "area": int((segments == s).sum()), "iscrowd": 0}
            for s in np.unique(segments)
        ]  # fmt: skip
        png = Path(image["file_name"]).with_suffix(".png").name
        panoptic.append({"image_id": image["id"], "file_name": png, "segments_info": info})
        if spec.coco_panoptic:
            save(root / in_split(spec.mask_pattern, split, spec) / png, id2rgb(segments))
    documents = ((spec.coco_instances, objects), (spec.coco_panoptic, panoptic))
    for name, annotations in documents:
        if name is not None:
            path = root / in_split(name, split, spec)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"images": images, "annotations": annotations, "categories": categories}
            path.write_text(json.dumps(content))


def _object(mask) -> dict:
    run = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = {"size": list(run["size"]), "counts": run["counts"].decode()}
    box = [float(side) for side in coco_mask.toBbox(run)]
    return {"segmentation": counts, "area": int(mask.sum()), "bbox": box}
