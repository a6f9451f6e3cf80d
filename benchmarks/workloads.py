"""Seeded workloads: scenes of many regions with curved borders, and noisy copies of them."""

from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask
from scipy.spatial import cKDTree

from segbench.core.files import write_json
from segbench.evaluation.instance.counts import InstanceCounts
from segbench.evaluation.panoptic.panoptic_quality import PanopticCounts
from segbench.evaluation.semantic.counts import SemanticCounts
from segbench.formats.label_maps import id2rgb, read_label_map


def regions(rng, height, width, number):
    """Index of the nearest of ``number`` centres for each pixel, borders bent by a wave."""
    centres = rng.random((number, 2)) * (height, width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = rng.uniform(3, 9, 2)
    bent = [rows + waves[0] * np.sin(columns / 17), columns + waves[1] * np.sin(rows / 13)]
    return cKDTree(centres).query(np.stack(bent, axis=-1).reshape(-1, 2))[1].reshape(height, width)


def semantic_pair(rng, *, height=1024, width=2048, classes=19, number=60):
    """Train ids with void patches, and a prediction: shifted borders, some wrong regions."""
    cells = regions(rng, height, width, number)
    label = rng.integers(0, classes, number)
    truth = np.where(rng.random(number) < 0.05, 255, label)[cells].astype(np.uint8)
    wrong = rng.random(number) < 0.2
    guess = np.where(wrong, rng.integers(0, classes, number), label)
    return truth, np.roll(guess[cells], (2, 3), axis=(0, 1)).astype(np.uint8)


def save(path: Path, pixels):
    """Write a PNG with Pillow, as nearly all published label maps are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_semantic(folder: Path, pairs: int, **size):
    """Write label maps ``truth/*.png`` and ``prediction/*.png``; return the paths in pairs."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(pairs):
        pair = semantic_pair(rng, **size)
        here = [folder / side / f"{index:04}.png" for side in ("truth", "prediction")]
        for path, labels in zip(here, pair, strict=True):
            save(path, labels)
        paths.append(tuple(here))
    return paths


def write_label_ids(folder: Path, paths):
    """Write the same maps with numbers Cityscapes tools know: void 0, classes from 7 up."""
    written = []
    for pair in paths:
        here = [folder / path.parent.name / path.name for path in pair]
        for path, target in zip(pair, here, strict=True):
            labels = read_label_map(path)
            save(target, np.where(labels == 255, 0, labels + 7))
        written.append(tuple(here))
    return written


def panoptic_pair(rng, *, height=480, width=640, classes=133):
    """Segment ids and their category indices, for a truth and a prediction of it."""
    number = int(rng.integers(5, 26))
    cells = regions(rng, height, width, number)
    ids = rng.choice(2**24 - 2, number, replace=False) + 1
    category = rng.integers(0, classes, number)
    void = rng.random(number) < 0.1
    truth = np.where(void, 0, ids)[cells].astype(np.int32)
    guess = np.where(rng.random(number) < 0.2, rng.integers(0, classes, number), category)
    prediction = np.roll(ids[cells], (2, 2), axis=(0, 1)).astype(np.int32)
    sides = []
    for labels, categories in ((truth, category), (prediction, guess)):
        found, areas = np.unique(labels[labels > 0], return_counts=True)
        known = dict(zip(ids.tolist(), categories.tolist(), strict=True))
        segments = [
            {"id": i, "category_id": known[i] + 1, "iscrowd": 0, "area": a, "bbox": [0, 0, 1, 1]}
            for i, a in zip(found.tolist(), areas.tolist(), strict=True)
        ]
        sides.append((labels, segments))
    return sides


def categories(number=133, things=80):
    return [
        {"id": i + 1, "name": f"class {i + 1}", "isthing": int(i < things), "color": [i, 1, 2]}
        for i in range(number)
    ]


def write_panoptic(folder: Path, pairs: int):
    """Write COCO panoptic files ``truth.json``, ``truth/``, ``prediction.json``, ..."""
    rng = np.random.default_rng(1)
    images = [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(pairs)]
    annotations = {"truth": [], "prediction": []}
    for index in range(pairs):
        for side, (ids, segments) in zip(annotations, panoptic_pair(rng), strict=True):
            save(folder / side / f"{index}.png", id2rgb(ids))
            annotations[side].append(
                {"image_id": index, "file_name": f"{index}.png", "segments_info": segments}
            )
    for side, listed in annotations.items():
        content = {"images": images, "categories": categories(), "annotations": listed}
        write_json(folder / f"{side}.json", content)
    return folder


def write_instances(folder: Path, number: int, *, classes=80):
    """Write ``truth.json`` and ``results.json``: seven objects an image, 35 detections."""
    rng = np.random.default_rng(2)
    images = [{"id": i + 1, "width": 640, "height": 480} for i in range(number)]
    annotations, results = [], []
    for image in images:
        shapes = [blob(rng, rng.uniform(40, 600), rng.uniform(40, 440)) for _ in range(7)]
        labels = rng.integers(1, classes + 1, 7).tolist()
        for shape, label in zip(shapes, labels, strict=True):
            found = described(shape, image["id"], label)
            annotations.append(found | {"id": len(annotations) + 1, "iscrowd": 0})
        for _ in range(35):
            place = int(rng.integers(0, 7))
            moved = shapes[place] + rng.normal(0, 3, 2) * rng.integers(1, 8)
            found = described(moved, image["id"], labels[place])
            score = float(rng.random())
            del found["area"], found["bbox"]  # with a box, pycocotools takes its area
            results.append(found | {"score": score})
    known = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(classes)]
    content = {"images": images, "categories": known, "annotations": annotations}
    write_json(folder / "truth.json", content)
    write_json(folder / "results.json", results)


def blob(rng, x, y):
    """Return the outline of a roundish object [32, 2]."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    radius = rng.uniform(8, 60) * (1 + 0.2 * np.sin(3 * angle + rng.uniform(0, 6)))
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def described(outline, image_id, category_id):
    """Return the RLE, box and area of an outline, as COCO files have them."""
    inside = np.clip(outline, 1, (638, 478)).ravel().tolist()
    rle = mask.frPyObjects([inside], 480, 640)[0]
    return {
        "image_id": image_id, "category_id": category_id, "area": float(mask.area(rle)),
        "bbox": mask.toBbox(rle).tolist(),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }  # fmt: skip


def semantic_counts(images, classes, *, seed=0):
    """Confusions as a network leaves them: six classes an image, three confusions a class."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        for truth in rng.choice(classes, min(6, classes), replace=False):
            rows.append((image, truth, truth, rng.integers(10_000, 300_000)))
            others = rng.choice(np.delete(np.arange(classes), truth), 3, replace=False)
            rows += [(image, truth, other, rng.integers(1, 20_000)) for other in others]
    return SemanticCounts(classes, tuple(range(images)), np.array(rows, dtype=np.int64))


def panoptic_counts(images, classes=133, *, seed=0):
    """Eight matches and six errors an image."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(images), 8)
    union = rng.integers(1000, 50_000, len(index))
    inter = (union * rng.uniform(0.5, 1, len(index))).astype(np.int64) + 1
    ids = np.arange(len(index))
    matches = np.stack([index, rng.integers(0, classes, len(index)), ids, ids, inter, union], 1)
    pairs = np.unique(
        np.stack([np.repeat(np.arange(images), 6), rng.integers(0, classes, 6 * images)], 1), axis=0
    )
    errors = np.concatenate([pairs, rng.integers(0, 3, (len(pairs), 2))], axis=1)
    isthing = np.arange(classes) < 80
    return PanopticCounts(
        tuple(range(1, classes + 1)), isthing, tuple(range(images)), np.arange(images), matches,
        errors,
    )  # fmt: skip


def instance_counts(images, classes=80, *, per_image=35, seed=0):
    """As many detections an image as ``per_image``, a fifth of them right, seven truths or more."""
    rng = np.random.default_rng(seed)
    cells = []
    for image in range(images):
        truths = np.bincount(rng.integers(0, classes, 7), minlength=classes)
        found = np.bincount(rng.integers(0, classes, per_image), minlength=classes)
        cells += [(k, image, found[k], truths[k]) for k in np.flatnonzero(truths + found)]
    cells = np.array(sorted(cells), dtype=np.int64)
    number = int(cells[:, 2].sum())
    level = np.where(rng.random(number) < 0.2, rng.integers(1, 11, number), 0)
    scores = rng.random(number) * (1 + level / 10) / 2
    cell = np.repeat(np.arange(len(cells)), cells[:, 2])
    order = np.lexsort((-scores, cell))
    cells[:, 3] = np.maximum(
        cells[:, 3], np.bincount(cell, weights=level > 0, minlength=len(cells))
    )
    hit = np.arange(10)[:, None] < level[order]
    return InstanceCounts(
        "segm", tuple(range(1, classes + 1)), tuple(range(images)), cells, scores[order],
        np.broadcast_to(hit, (4, 10, number)), np.zeros((4, 10, number), dtype=bool),
        np.zeros((4, int(cells[:, 3].sum())), dtype=bool),
    )  # fmt: skip
