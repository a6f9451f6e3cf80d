"""COCO 2017's four archives; polygons, runs and a crowd among the instances."""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from segbench.datasets import dataset_info
from tests.datasets.miniatures.scenes import save, scene

SIZES = ((60, 80), (64, 48))
PNG_ARCHIVE = "panoptic_annotations_trainval2017.zip"


def build(folder: Path) -> None:
    """4 train and 2 val images of things (ids 1, 90, 18) before stuff (92, 200)."""
    for split, numbers in {"train": range(1, 5), "val": range(11, 13)}.items():
        images, segments, objects = [], [], []
        for number in numbers:
            image, annotation, found = _image(folder, split, number)
            images.append(image)
            segments.append(annotation)
            objects.extend(found)
        for position, item in enumerate(objects, start=1):
            item["id"] = position
        base = {"info": {}, "licenses": [], "images": images}
        panoptic = {**base, "annotations": segments, "categories": _categories()}
        _write(folder / PNG_ARCHIVE / "annotations" / f"panoptic_{split}2017.json", panoptic)
        things = [category for category in _categories() if category["isthing"]]
        instances = {**base, "annotations": objects, "categories": things}
        archive = folder / "annotations_trainval2017.zip" / "annotations"
        _write(archive / f"instances_{split}2017.json", instances)


def _image(folder: Path, split: str, number: int):
    height, width = SIZES[number % 2]
    made = scene(number, height, width, things=(1, 90, 18), stuff=(92, 200), void=0)
    stem = f"{number:012d}"
    photograph = folder / f"{split}2017.zip" / f"{split}2017" / f"{stem}.jpg"
    save(photograph, made.image, quality=95)
    ids = made.instances + 1000 * number
    ids = np.where(made.instances > 0, ids, 70_000 + made.labels) * (made.labels > 0)
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    pngs = folder / PNG_ARCHIVE / f"annotations/panoptic_{split}2017.zip" / f"panoptic_{split}2017"
    save(pngs / f"{stem}.png", colours)
    image = {"id": number, "file_name": f"{stem}.jpg", "height": height, "width": width}
    info = [_segment(ids, int(value), made) for value in np.unique(ids[ids > 0])]
    annotation = {"image_id": number, "file_name": f"{stem}.png", "segments_info": info}
    return image, annotation, [_object(made, index, number) for index in range(len(made.codes))]


def _segment(ids, value, made):
    rows, columns = np.nonzero(ids == value)
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    crowd = int(made.instances[rows[0], columns[0]] == len(made.codes))
    category = int(made.labels[rows[0], columns[0]])
    area = len(rows)
    return {"id": value, "category_id": category, "area": area, "bbox": box, "iscrowd": crowd}


def _object(made, index, image_id):
    """The last object of an image is a crowd in runs, the others are polygons."""
    mask = made.instances == index + 1
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
    crowd = index + 1 == len(made.codes)
    polygon = [[left, top, right, top, right, bottom, left, bottom]]
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": list(mask.shape), "counts": _counts(mask)} if crowd else polygon
    return {
        "image_id": image_id,
        "category_id": made.codes[index],
        "segmentation": segmentation,
        "area": float(coco_mask.area(runs)) - 0.25,
        "bbox": [left + 0.13, top + 0.5, right - left - 0.2, bottom - top - 0.6],
        "iscrowd": int(crowd),
    }


def _counts(mask):
    """Return uncompressed runs in column order, the first of zeros."""
    flat = np.concatenate([[0], mask.ravel(order="F").astype(int), [2]])
    starts = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], starts])).tolist()


def _categories():
    return [
        {
            "id": c.id,
            "name": c.name,
            "supercategory": c.supercategory,
            "isthing": int(c.isthing),
            "color": list(c.color),
        }
        for c in dataset_info("coco2017").categories
    ]


def _write(path: Path, document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
