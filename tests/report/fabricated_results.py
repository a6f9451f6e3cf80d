"""A results folder with made-up predictions and true scores: small, complete, hostile.

Predictions are the truth with mistakes put in; records come from the real evaluator, so
every displayed number can be checked against the counts behind it.
"""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from segbench.core.files import write_json, write_jsonl, write_text
from segbench.core.seal import sealed
from segbench.evaluation.count_split import evaluate
from segbench.evaluation.counts import load_counts
from segbench.evaluation.explain import explain_parts
from segbench.evaluation.instance.tide import split_files
from segbench.formats.label_maps import id2rgb, write_label_map
from segbench.formats.manifest import read_manifest, write_manifest
from segbench.formats.prepared import PreparedDataset

HEIGHT, WIDTH = 48, 64
HOSTILE = '<script>alert(1)</script> & "Ünï" 50%'
STEMS = (
    "plain_0",
    "été 01",
    "a#b 100%",
    "<b>bold & co",
    "scene_4",
    "scene_5",
    "scene_6",
    "scene_7",
)
SHAPES = ("sky", "grass", "ball", "box", "ring & <i>co</i>", "never seen")
DOUBT = "it looks as if the predicted numbers are <b>one</b> too high"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOG_LINES = [f"iteration {i}: loss {1 / (i + 1):.3f}" for i in range(40)]


def build(root: Path) -> Path:
    """Write the folder and return the path of its table."""
    shapes = _prepare(root, "shapes", SHAPES, things=3, tasks=("semantic", "instance", "panoptic"))
    many = _prepare(
        root, "many-classes", [f"class {i}" for i in range(36)], things=0, tasks=("semantic",)
    )
    cells = [*_shapes_cells(root, shapes), *_many_cells(root, many)]
    table = {
        "schema": 1,
        "title": "Shapes & <Friends>",
        "results": str(root),
        "gallery_images": 6,
        "datasets": {d.name: d.description for d in (shapes, many)},
        "models": MODELS,
        "cells": cells,
        "ties": [_planted_ties()],
    }
    write_json(root / "table.json", table)
    with (root / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["dataset", "experiment", "task", "status"])
        rows.writerows([c["dataset"], c["experiment"], c["task"], c["status"]] for c in cells)
    return root / "table.json"


def cell_named(cell, experiment, display_name):
    """Return a scored cell as that of another experiment."""
    record = {key: value for key, value in cell["record"].items() if key != "seal"}
    record = sealed({**record, "experiment": experiment, "display_name": display_name})
    return {**cell, "experiment": experiment, "display_name": display_name, "record": record}


def _planted_ties():
    """Too few images for a bootstrap, so the ties of one board are made up."""
    ranks = {"mask_rcnn": (0, 1, 2), "panoptic_fpn": (0, 1, 2), "fcos": (1, 3, 3)}
    return {
        "dataset": "shapes",
        "split": "val",
        "task": "instance",
        "protocol": "coco-instances",
        "metric": "ap",
        "level": 0.95,
        "rows": [
            {"name": name, "group": group, "rank_low": low, "rank_high": high, "p_best": None}
            for name, (group, low, high) in ranks.items()
        ],
    }


def _planted_interval(scores):
    ends = {"low": max(scores["ap"] - 0.031, 0.0), "high": min(scores["ap"] + 0.022, 1.0)}
    return {"ap": {**ends, "level": 0.95, "method": "bca", "resamples": 1000}}


def _model(name, task, paper, year, backbone):
    return {
        "id": name,
        "name": name,
        "task": task,
        "paper": paper,
        "year": year,
        "display_name": name,
        "backbone": backbone,
        "size": "tiny",
    }


MODELS = {
    "fcn_tiny": _model("fcn_tiny", "semantic", "Long et al., CVPR 2015", 2015, "residual trunk"),
    "unet_tiny": _model("unet_tiny", "semantic", "Ronneberger et al., MICCAI", 2015, "")
    | {"deep": False},
    "evil": _model("evil", "semantic", HOSTILE, 2024, "</td><img src=x onerror=alert(2)>"),
    "mask_rcnn_tiny": _model("mask_rcnn_tiny", "instance", "He et al., ICCV", 2017, "FPN"),
    "fcos_tiny": _model("fcos_tiny", "instance", "Tian et al., ICCV", 2019, "FPN"),
    "panoptic_fpn_tiny": _model(
        "panoptic_fpn_tiny", "panoptic", "Kirillov et al., CVPR", 2019, "FPN"
    ),
}


def _shapes_cells(root, data):
    cells = []
    for seed, error in enumerate((0.10, 0.12, 0.14)):
        cells += _run(root, data, "fcn", seed, ("semantic",), error, "FCN (tiny)", "fcn_tiny", 1.1)
    for seed, error in enumerate((0.05, 0.06)):
        cells += _run(root, data, "unet", seed, ("semantic",), error, "U-Net", "unet_tiny", 3.4)
    cells += _broken(root, data, "unet", 2, "U-Net", "unet_tiny")
    for name in ("twin_a", "twin_b"):
        cells += _run(root, data, name, 0, ("semantic",), 0.3, f"Twin [{name}]", "fcn_tiny", 0.4)
    cells += _run(root, data, "hostile", 0, ("semantic",), 0.5, HOSTILE, "evil", 9.0)
    cells += _run(
        root, data, "mask_rcnn", 0, ("instance",), 0.08, "Mask R-CNN", "mask_rcnn_tiny", 6.0
    )
    cells += _run(root, data, "fcos", 0, ("instance",), 0.2, "FCOS", "fcos_tiny", 4.0)
    tasks = ("panoptic", "instance", "semantic")
    cells += _run(
        root, data, "panoptic_fpn", 0, tasks, 0.07, "Panoptic FPN", "panoptic_fpn_tiny", 7.5
    )
    cells += _oracle(root, data, "panoptic_fpn", ("semantic",), 0.02)
    cells += _oracle(root, data, "panoptic_fpn", ("semantic", "boxes"), 0.0)
    cells += _run(root, data, "oracle", 0, tasks, 0.0, "oracle", None, None)
    cells += _broken(root, data, "broken", 0, "Broken net", "fcn_tiny")
    cells.append(
        {
            **cells[-1],
            "experiment": "later",
            "display_name": "Later net",
            "status": "not_run",
            "reason": "no job of this row has started yet",
            "logs": [],
            "run_folder": "shapes/later/seed0",
        }
    )
    return cells


def _many_cells(root, data):
    wide = _run(root, data, "wide", 0, ("semantic",), 0.2, "Wide", "fcn_tiny", 2.0)
    return [*wide, *_run(root, data, "all_void", 0, ("semantic",), 1.0, "all void", None, None)]


# Prepared data


def _prepare(root, name, classes, *, things, tasks):
    folder = root / "data" / name
    stuff = len(classes) - things
    colors = np.random.default_rng(len(classes)).integers(40, 230, (len(classes), 3)).tolist()
    categories = [
        {"id": 10 + i, "name": c, "isthing": i >= stuff, "color": colors[i], "supercategory": ""}
        for i, c in enumerate(classes)
    ]
    scenes = [_scene(np.random.default_rng(i), len(classes), stuff) for i in range(len(STEMS))]
    rows = [_write_scene(folder, i, *scene) for i, scene in enumerate(scenes)]
    write_jsonl(folder / "val.jsonl", rows)
    _write_coco(folder / "annotations", scenes, categories)
    protocols = {
        "semantic": "semantic-pooled",
        "instance": "coco-instances",
        "panoptic": "coco-panoptic",
    }
    write_json(
        folder / "dataset.json",
        {
            "schema": 1,
            "name": name,
            "display_name": f"{name.title()} <&>",
            "description": "Made-up scenes.",
            "tasks": list(tasks),
            "splits": {"train": 1, "val": len(STEMS)},
            "official_splits": {"train": 4, "val": None, "test": 2},
            "class_histogram": _histogram(scenes, len(classes)),
            "skipped": [{"split": "train", "stem": "<b>bold & co", "what": HOSTILE}],
            "homepage": "https://example.org/<data>",
            "options": {"size": "small & <b>fast</b>"},
            "categories": categories,
            "digest": "d" * 16,
            "protocols": {t: protocols[t] for t in tasks},
            "licence": "CC0",
            "citation": "none",
        },
    )
    return PreparedDataset.open(folder)


def _histogram(scenes, num_classes):
    """Count every class of the scenes, and of the first one as the training split."""
    counts = [np.bincount(semantic.ravel(), minlength=num_classes) for semantic, _, _ in scenes]
    splits = {"train": counts[0], "val": sum(counts)}
    return {s: {"pixels": pixels.tolist(), "ignored": 77} for s, pixels in splits.items()}


def _scene(random, num_classes, stuff):
    """Return (train ids, segment ids, {segment id: train id}) of stuff bands and square things."""
    used = num_classes - 1 if num_classes > 1 else 1
    things = list(range(stuff, used))
    bands = random.permutation(stuff)[: max(2, stuff)]
    semantic = np.repeat(bands[np.arange(HEIGHT) * len(bands) // HEIGHT][:, None], WIDTH, axis=1)
    ids = semantic + 1
    segments = {int(b) + 1: int(b) for b in bands}
    for number in range(3 if things else 0):
        y, x = int(random.integers(0, HEIGHT - 14)), int(random.integers(0, WIDTH - 14))
        segment = 100 + number
        segments[segment] = things[number % len(things)]
        semantic[y : y + 13, x : x + 13] = segments[segment]
        ids[y : y + 13, x : x + 13] = segment
    visible = set(np.unique(ids).tolist())
    return semantic, ids, {s: c for s, c in segments.items() if s in visible}


def _write_scene(folder, index, semantic, ids, segments):
    stem = STEMS[index]
    colors = np.random.default_rng(7).integers(60, 220, (64, 3))
    noise = np.random.default_rng(index).integers(-20, 20, (*semantic.shape, 1))
    photo = np.clip(colors[semantic] + noise, 0, 255).astype(np.uint8)
    paths = {
        "image": f"images/val/{stem}.png",
        "semantic": f"semantic/val/{stem}.png",
        "panoptic": f"panoptic/val/{stem}.png",
    }
    for path in paths.values():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(folder / paths["image"])
    write_label_map(folder / paths["semantic"], semantic)
    Image.fromarray(id2rgb(ids)).save(folder / paths["panoptic"])
    return {"image_id": index + 1, "width": WIDTH, "height": HEIGHT, **paths}


def _write_coco(folder, scenes, categories):
    images = [
        {"id": i + 1, "file_name": f"{s}.png", "height": HEIGHT, "width": WIDTH}
        for i, s in enumerate(STEMS)
    ]
    things = [c for c in categories if c["isthing"]]
    objects = [
        {**o, "image_id": i + 1, "iscrowd": 0, "area": int((ids == s).sum())}
        for i, (_, ids, segments) in enumerate(scenes)
        for s, c in segments.items()
        if categories[c]["isthing"]
        for o in [_object(ids == s, categories[c]["id"])]
    ]
    numbered = [{**o, "id": n + 1} for n, o in enumerate(objects)]
    write_json(
        folder / "instances_val.json",
        {"images": images, "annotations": numbered, "categories": things},
    )
    panoptic = [
        _panoptic(i, ids, segments, categories) for i, (_, ids, segments) in enumerate(scenes)
    ]
    write_json(
        folder / "panoptic_val.json",
        {
            "images": images,
            "annotations": panoptic,
            "categories": [{**c, "isthing": int(c["isthing"])} for c in categories],
        },
    )


def _object(mask, category):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "category_id": category,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
    }


def _panoptic(index, ids, segments, categories):
    info = [
        {
            "id": s,
            "category_id": categories[c]["id"],
            "area": int((ids == s).sum()),
            "iscrowd": 0,
            "bbox": _object(ids == s, 0)["bbox"],
        }
        for s, c in segments.items()
    ]
    return {"image_id": index + 1, "file_name": f"{STEMS[index]}.png", "segments_info": info}


# Runs


def _oracle(root, data, experiment, parts, error):
    """Return rows of an oracle, scored for fewer tasks than the network it stands on."""
    name, tag = f"{experiment}@oracle-{'-'.join(parts)}", f"oracle:{'+'.join(parts)}"
    return _run(
        root, data, name, 0, ("panoptic", "instance"), error, f"Panoptic FPN, {tag}",
        "panoptic_fpn_tiny", None, oracle={"of": experiment, "parts": list(parts)},
    )  # fmt: skip


def _run(root, data, experiment, seed, tasks, error, display_name, model, params, oracle=None):
    """Predict with mistakes, score with the real evaluator, write what a run leaves behind."""
    run = root / data.name / experiment / f"seed{seed}"
    folder = run / "predictions" / "val"
    _predict(folder, data, tasks, error, seed)
    kind = "oracle" if oracle else "control" if model is None else "trained"
    profile = _profile(run, params) if kind == "trained" else None
    if kind == "trained":
        _train_files(run, root, data.name, experiment, seed)
    shared = {
        "dataset": data.name,
        "experiment": experiment,
        "seed": seed,
        "split": "val",
        "model": model,
        "kind": kind,
        "display_name": display_name,
    }
    logs = [] if kind != "trained" else [f"logs/train/{data.name}/{experiment}/seed{seed}.log"]
    cells = []
    for task in tasks:
        record = _record(run, data, task, folder, shared)
        cells.append(
            {
                **shared,
                "task": task,
                "status": "ok",
                "reason": "",
                "logs": logs,
                "run_folder": run.relative_to(root).as_posix(),
                "record": record,
                "profile": profile,
                "oracle": oracle,
            }
        )
    return cells


def _predict(folder, data, tasks, error, seed):
    random = np.random.default_rng(seed)
    categories = data.description["categories"]
    scenes = [
        _scene(np.random.default_rng(i), len(categories), sum(not c["isthing"] for c in categories))
        for i in range(len(STEMS))
    ]
    detections, annotations = [], []
    for index, (semantic, ids, segments) in enumerate(scenes):
        shift = round(error * 14 * (1 + index % 3)) if error < 1 else 0
        labels = np.full_like(semantic, 255) if error >= 1 else np.roll(semantic, shift, axis=1)
        labels = (
            np.where(random.random(labels.shape) < error / 4, 0, labels)
            if 0 < error < 1
            else labels
        )
        if "semantic" in tasks:
            write_label_map(folder / "semantic" / f"{STEMS[index]}.png", labels)
        moved = np.roll(ids, shift, axis=1)
        for segment, label in segments.items():
            if categories[label]["isthing"] and (moved == segment).any():
                found = _object(moved == segment, categories[label]["id"])
                detections.append(
                    {**found, "image_id": index + 1, "score": 0.9 - error * random.random()}
                )
        if "panoptic" in tasks:
            (folder / "panoptic").mkdir(parents=True, exist_ok=True)
            Image.fromarray(id2rgb(moved)).save(folder / "panoptic" / f"{STEMS[index]}.png")
            annotations.append(_panoptic(index, moved, segments, categories))
    if "instance" in tasks:
        write_json(folder / "instances.json", detections)
    if "panoptic" in tasks:
        write_json(folder / "panoptic.json", {"annotations": annotations})
    write_manifest(folder)


def _profile(run, params):
    profile = {
        "params": int(params * 1e6),
        "params_trainable": int(params * 1e6),
        "gmacs": params * 2.5,
        "input_size": [48, 64],
        "latency_ms": 3.0 + params,
        "images_per_second": 1000 / (3 + params),
        "peak_memory_mb": 120.5,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    }
    write_json(run / "profile.json", profile)
    return profile


def _train_files(run, root, dataset, experiment, seed):
    slow = 8 + len(experiment) % 9 * 6
    losses = [2.0 / (1 + i / slow) + 0.1 * ((i * 7 + seed) % 5) / 5 for i in range(300)]
    write_jsonl(
        run / "train_log.jsonl",
        [
            {
                "iteration": i + 1,
                "loss": loss,
                "losses": {"ce": loss},
                "lr": 0.01,
                "grad_norm": 1.0,
                "images_per_second": 40.0,
                "time_s": i * 0.1,
            }
            for i, loss in enumerate(losses)
        ],
    )
    write_json(
        run / "recipe.json",
        {
            "recipe": {"model": "m", "crop_size": [48, 64], "flip": False, "window": None},
            "iterations": 300,
            "images_seen": 1200,
            "attempts": 1,
        },
    )
    write_text(
        root / f"logs/train/{dataset}/{experiment}/seed{seed}.log", "\n".join(LOG_LINES) + "\n"
    )


def _record(run, data, task, predictions, shared):
    folder = run / "evaluation" / "val" / task
    protocol = data.protocol(task)
    done = evaluate(
        data,
        "val",
        predictions,
        task=task,
        boundary=True,
        protocol_id=protocol,
        counts_path=folder / "counts.npz",
    )
    record = {
        "schema": 1,
        **shared,
        "task": task,
        "protocol": protocol,
        "num_images": done.num_images,
        "scores": done.scores,
        "intervals": _planted_interval(done.scores) if task == "instance" else {},
        "warnings": [DOUBT] if shared["experiment"] == "twin_a" else list(done.warnings),
        "rules": _rules(folder / "counts.npz", done.per_class),
        "errors": _errors(data, predictions) if task == "instance" else None,
        "per_class": done.per_class,
        "counts": "counts.npz",
        "digests": {
            "recipe": "a" * 16,
            "data": "d" * 16,
            "code": "c" * 16,
            "predictions": read_manifest(predictions)["digest"],
        },
        "provenance": {
            "segbench": "0.1.0",
            "commit": COMMIT,
            "dirty": False,
            "versions": {"numpy": "2.0"},
            "hardware": {"cpu": "Test CPU <fast>", "cores": 2},
            "device": "cpu",
            "created": "2026-01-02T03:04:05+00:00",
            "wall_time_s": {"train": 75.0 + shared["seed"], "predict": 3.0, "evaluate": 0.5},
        },
    }
    write_json(folder / "record.json", record)
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def _rules(counts, per_class):
    return explain_parts(load_counts(counts), [row["name"] for row in per_class])


def _errors(data, predictions):
    found = split_files(data.instances_file("val"), predictions / "instances.json")
    return {shape: split.as_dict() for shape, split in found.items()}


def _broken(root, data, experiment, seed, display_name, model):
    log = f"logs/train/{data.name}/{experiment}/seed{seed}.log"
    write_text(
        root / log,
        "\x1b[31mstart\x1b[0m\n<b>not bold</b>\nerror: the loss is not finite at iteration 12\n",
    )
    return [
        {
            "dataset": data.name,
            "experiment": experiment,
            "seed": seed,
            "task": "semantic",
            "split": "val",
            "kind": "trained",
            "model": model,
            "display_name": display_name,
            "status": "failed",
            "reason": "the loss is not finite at iteration 12",
            "run_folder": f"{data.name}/{experiment}/seed{seed}",
            "logs": [log],
            "record": None,
            "profile": None,
        }
    ]
