"""Small panoptic files on disk, made by arithmetic alone."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from segbench.formats.label_maps import id2rgb

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "a", "isthing": 1, "color": [220, 20, 60]},
    {"id": 5, "name": "cat", "supercategory": "a", "isthing": 1, "color": [10, 200, 30]},
    {"id": 90, "name": "grass", "supercategory": "b", "isthing": 0, "color": [0, 90, 250]},
    {"id": 200, "name": "sky", "supercategory": "b", "isthing": 0, "color": [1, 2, 3]},
]
BY_ID = {category["id"]: category for category in CATEGORIES}


def blocks(number):
    """A 24x32 map of blocks with the ids 0, 7, 300, 70000, 1001, 1002 and 2^24 - 1."""
    rows, columns = np.mgrid[0:24, 0:32]
    ids = np.array([0, 7, 300, 70_000, 1001, 1002, 2**24 - 1])
    return ids[((rows // 6) * (3 + number) + columns // (5 + number)) % 7]


def moved(ids, number):
    """The same map shifted by a pixel, with one id split and one column of void."""
    prediction = np.roll(ids, 1, axis=number % 2)
    prediction[:, :2] = 0
    prediction[12:, :][prediction[12:, :] == 300] = 301
    return prediction


def segments(ids, truth):
    """Segments of all ids: 1001 and 1002 are crowds of one category, 70000 is an orphan."""
    found = []
    categories = {7: 1, 300: 90, 301: 90, 70_000: 5, 1001: 1, 1002: 1, 2**24 - 1: 200}
    for segment_id in (i for i in np.unique(ids).tolist() if i):
        if truth and segment_id == 70_000:
            continue
        segment = {"id": segment_id, "category_id": categories[segment_id]}
        if truth:
            area = int((ids == segment_id).sum())
            segment |= {"iscrowd": int(segment_id in (1001, 1002)), "bbox": [0, 0, 32, 24]}
            segment["area"] = area - 60 if segment_id == 300 else area
        found.append(segment)
    return found


def write(folder, name, maps, truth):
    """Write a COCO panoptic JSON and its PNGs; return the JSON's path."""
    (folder / name).mkdir(parents=True)
    annotations = []
    for number, ids in enumerate(maps):
        file_name = f"{number}.png"
        Image.fromarray(id2rgb(ids)).save(folder / name / file_name)
        annotations.append(
            {"image_id": number, "file_name": file_name, "segments_info": segments(ids, truth)}
        )
    images = [{"id": i, "width": 32, "height": 24, "file_name": f"{i}.jpg"} for i in range(3)]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def pair(folder):
    """Write a truth and a prediction of three images."""
    maps = [blocks(number) for number in range(3)]
    predicted = [moved(ids, number) for number, ids in enumerate(maps)]
    return write(folder, "gt", maps, True), write(folder, "pred", predicted, False)
