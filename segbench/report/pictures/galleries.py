"""Pictures of the report: a photograph once, its ground truth once, predictions and errors per run.

Label maps are lossless WebP with alpha laid over the photograph by the page, so one file is
both the picture and the exact evidence, at any opacity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segbench.core.errors import DataError
from segbench.core.files import atomic_path
from segbench.core.types import UNRANKED, ImageRecord, IntArray
from segbench.evaluation.counts import image_scores, load_counts
from segbench.evaluation.metrics import IMAGE_SCORES, Metric
from segbench.evaluation.semantic.counts import SemanticCounts
from segbench.formats.label_maps import read_image
from segbench.formats.manifest import check_files, read_manifest
from segbench.formats.prepared import PreparedDataset
from segbench.report.paths import inside, inside_file, stays_inside
from segbench.report.pictures.layers import ERROR_LEGEND, Layers, open_layers
from segbench.report.pictures.overlays import finished, reuse
from segbench.report.rows import Cell, slug
from segbench.report.runs import run_slug
from segbench.report.values import worst_first

VIEWS = (("image", "Image"), ("truth", "Truth"), ("prediction", "Prediction"), ("error", "Error"))
PHOTO_SIDE = 1024
PHOTO_QUALITY = 82
Picture = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What the counts of one record say: a score per image id, and the confusion matrix."""

    scores: Mapping[Any, float | None] = field(default_factory=dict)
    confusion: IntArray | None = None


@dataclass(frozen=True)
class Gallery:
    """The images of one run and task, in the order they are shown."""

    images: list[Picture]
    palette: list[Mapping[str, Any]]
    order_note: str
    views: tuple[tuple[str, str], ...] = VIEWS
    error_legend: tuple[Mapping[str, Any], ...] = ERROR_LEGEND


@dataclass(frozen=True)
class Comparison:
    """Images with the predictions of several runs, by run slug."""

    images: list[Picture]
    palette: list[Mapping[str, Any]]
    error_legend: tuple[Mapping[str, Any], ...] = ERROR_LEGEND


class Galleries:
    """Makes and remembers every picture of a site.

    Args:
        results: The results folder.
        out: The site being built.
        limit: Images of a run; 0 makes no pictures at all.
    """

    def __init__(self, results: Path, out: Path, limit: int) -> None:
        self.results, self.out, self.limit = results, out, limit
        self._galleries: dict[tuple[str, str, str], Gallery | None] = {}
        self._evidence: dict[tuple[str, str, str], Evidence] = {}
        self._datasets: dict[str, PreparedDataset | None] = {}
        self._records: dict[tuple[str, str], list[ImageRecord]] = {}
        self._layers: dict[tuple[str, str, str], Layers | None] = {}

    def evidence(self, cell: Cell) -> Evidence:
        """Return what the stored counts of a cell say; empty when there are none."""
        key = _key(cell)
        if key not in self._evidence:
            path = self._counts_path(cell)
            self._evidence[key] = Evidence() if path is None else _read_evidence(path)
        return self._evidence[key]

    def of_cell(self, cell: Cell) -> Gallery | None:
        """Return the gallery of a scored cell, worst image first.

        None when galleries are off, or the prepared images or predictions are not there.
        """
        key = _key(cell)
        if key not in self._galleries:
            self._galleries[key] = self._make(cell)
        return self._galleries[key]

    def samples(self, dataset: str, split: str, tasks: Sequence[str], count: int) -> list[Picture]:
        """Return images of a split with the ground truth of each task, evenly spaced in file order.

        Empty when galleries are off or the prepared images are not there.
        """
        cells = [{"dataset": dataset, "split": split, "task": task} for task in tasks]
        records = self._split(cells[0]) if self.limit > 0 and cells else []
        chosen = [records[i] for i in evenly(len(records), count) if records[i].image.is_file()]
        return [self._sample(cells, record) for record in chosen]

    def _sample(self, cells: Sequence[Cell], record: ImageRecord) -> Picture:
        pictures = {cell["task"]: self._base(cell, record) for cell in cells}
        layers = {task: p["truth"] for task, p in pictures.items() if p["truth"]}
        return {
            **next(iter(pictures.values())),
            "layers": layers,
            "classes": self._classes_shown(cells, record),
        }

    def _classes_shown(self, cells: Sequence[Cell], record: ImageRecord) -> list[Any]:
        """Return the classes that the ground truth of an image shows, in the dataset's order."""
        shown: set[int] = set()
        for cell in cells:
            layers = self._truth(cell)
            labels = layers.labels(record) if layers else None
            if labels is not None:
                shown |= set(np.unique(labels).tolist())
        prepared = self._dataset(cells[0]["dataset"])
        categories = prepared.description["categories"] if prepared else []
        return [category for i, category in enumerate(categories) if i in shown]

    def compare(self, cells: Sequence[Cell], metric: Metric) -> Comparison:
        """Return the images on which the cells disagree most, with all their predictions.

        Controls and oracles are shown but do not decide which images those are, unless fewer
        than two other runs are there.
        """
        trained = [cell for cell in cells if cell["kind"] not in UNRANKED]
        judges = trained if len(trained) > 1 else cells
        spreads = _spreads([self.evidence(cell).scores for cell in judges])
        records = self._split(cells[0])
        ordered = sorted(records, key=lambda r: -spreads.get(r.image_id, -1.0))[: self.limit]
        images = []
        for record in ordered:
            picture = self._base(cells[0], record)
            models = {run_slug(c): self._shown(c, record, metric) for c in cells}
            images.append(
                {**picture, "models": models, "spread": metric.text(spreads.get(record.image_id))}
            )
        return Comparison(images, self._palette(cells[0]))

    def _shown(self, cell: Cell, record: ImageRecord, metric: Metric) -> Picture:
        score = self.evidence(cell).scores.get(record.image_id)
        return {**self._predicted(cell, record), "score": metric.text(score)}

    def _make(self, cell: Cell) -> Gallery | None:
        if self.limit <= 0 or self._prediction(cell) is None:
            return None
        scores = self.evidence(cell).scores
        metric = IMAGE_SCORES[cell["task"]]
        records = sorted(self._split(cell), key=lambda r: worst_first(scores.get(r.image_id)))
        images = [
            {
                **self._base(cell, record),
                **self._predicted(cell, record),
                "score": metric.text(scores.get(record.image_id)),
            }
            for record in records[: self.limit]
        ]
        return Gallery(images, self._palette(cell), _order_note(cell, metric, len(images), scores))

    def _counts_path(self, cell: Cell) -> Path | None:
        name = str((cell.get("record") or {}).get("counts") or "counts.npz")
        folders = (cell["run_folder"], "evaluation", cell["split"], cell["task"])
        return inside_file(self.results, *folders, name)

    def _dataset(self, name: str) -> PreparedDataset | None:
        if name not in self._datasets:
            root = self._prepared(name)
            self._datasets[name] = None if root is None else _open(root)
        return self._datasets[name]

    def _prepared(self, name: str) -> Path | None:
        """Return the folder of a prepared dataset, which may be a link: disks differ in size."""
        root = self.results / "data" / name
        ready = stays_inside(name) and inside_file(root, "dataset.json") is not None
        return root if ready else None

    def _split(self, cell: Cell) -> list[ImageRecord]:
        key = (cell["dataset"], cell["split"])
        dataset = self._dataset(cell["dataset"])
        if key not in self._records:
            known = dataset is not None and (dataset.root / f"{cell['split']}.jsonl").is_file()
            records = dataset.images(cell["split"]) if dataset and known else []
            self._records[key] = [r for r in records if dataset and _is_inside(dataset.root, r)]
        return self._records[key]

    def _truth(self, cell: Cell) -> Layers | None:
        key = ("", cell["dataset"], f"{cell['split']}/{cell['task']}")
        dataset = self._dataset(cell["dataset"])
        if key not in self._layers:
            self._layers[key] = (
                open_layers(dataset, cell["split"], cell["task"]) if dataset else None
            )
        return self._layers[key]

    def _prediction(self, cell: Cell) -> Layers | None:
        key = _key(cell)
        if key not in self._layers:
            folder = inside(self.results, cell["run_folder"], "predictions", cell["split"])
            dataset = self._dataset(cell["dataset"]) if folder else None
            opened = None
            if folder is not None and dataset is not None and _was_scored(cell, folder):
                opened = open_layers(dataset, cell["split"], cell["task"], folder)
            self._layers[key] = opened
        return self._layers[key]

    def _untouched(self, cell: Cell) -> Layers | None:
        """Return the predictions of a run to draw, None where a file of them was changed."""
        key = (f"{cell['run_folder']}/untouched", str(cell["split"]), str(cell["task"]))
        if key not in self._layers:
            layers = self._prediction(cell)
            self._layers[key] = layers if layers and _as_listed(layers.predictions) else None
        return self._layers[key]

    def _palette(self, cell: Cell) -> list[Mapping[str, Any]]:
        dataset = self._dataset(cell["dataset"])
        categories = dataset.description["categories"] if dataset else []
        return [c for c in categories if c["isthing"] or cell["task"] != "instance"]

    def _base(self, cell: Cell, record: ImageRecord) -> Picture:
        """Return what an image has whatever the model: its photograph and ground truth."""
        key = slug(record.stem)
        folder = Path("media", slug(cell["dataset"]), slug(cell["split"]))
        photo = folder / "photo" / f"{key}.webp"
        if not (self.out / photo).exists():
            _save_photo(record.image, self.out / photo)
        truth = folder / f"truth-{cell['task']}" / f"{key}.webp"
        layers = self._truth(cell)
        shown = layers is not None and layers.write(record, self.out / truth)
        return {
            "key": key,
            "anchor": f"image-{key}",
            "name": record.stem,
            "width": record.width,
            "height": record.height,
            "photo": photo.as_posix(),
            "truth": truth.as_posix() if shown else "",
        }

    def _predicted(self, cell: Cell, record: ImageRecord) -> Picture:
        """Return the overlays of a run's prediction, drawn here if its own stage did not."""
        folder = Path("media", run_slug(cell), cell["task"])
        path = folder / f"{slug(record.stem)}.webp"
        error = folder / f"{slug(record.stem)}-error.webp"
        drawn = self._drawn(cell)
        if drawn is not None and reuse(drawn, f"{record.stem}.webp", self.out / path):
            wrong = reuse(drawn, f"{record.stem}-error.webp", self.out / error)
            return {"prediction": path.as_posix(), "error": error.as_posix() if wrong else ""}
        layers, truth = self._untouched(cell), self._truth(cell)
        shown = bool(layers and layers.write(record, self.out / path))
        made = shown and truth and layers and layers.write_error(record, truth, self.out / error)
        return {
            "prediction": path.as_posix() if shown else "",
            "error": error.as_posix() if made else "",
        }

    def _drawn(self, cell: Cell) -> Path | None:
        """Return the folder of overlays that a run's own stage drew."""
        folder = inside(self.results, cell["run_folder"], "overlays", cell["split"])
        digests = (cell.get("record") or {}).get("digests") or {}
        if folder is None or not finished(folder, digests):
            return None
        return inside(self.results, cell["run_folder"], "overlays", cell["split"], cell["task"])


def evenly(total: int, count: int) -> list[int]:
    """Return at most ``count`` positions below ``total``, from the middle of equal parts."""
    parts = min(total, count)
    return [(2 * i + 1) * total // (2 * parts) for i in range(parts)]


def _key(cell: Cell) -> tuple[str, str, str]:
    return str(cell["run_folder"]), str(cell["split"]), str(cell["task"])


def _open(root: Path) -> PreparedDataset | None:
    try:
        return PreparedDataset.open(root)
    except DataError:
        return None


def _was_scored(cell: Cell, folder: Path) -> bool:
    """Say whether a folder holds the predictions that a cell's record was made from."""
    scored = ((cell.get("record") or {}).get("digests") or {}).get("predictions")
    try:
        return bool(read_manifest(folder)["digest"] == scored)
    except DataError:
        return False


def _as_listed(folder: Path | None) -> bool:
    try:
        if folder is not None:
            check_files(folder, read_manifest(folder))
    except DataError:
        return False
    return True


def _read_evidence(path: Path) -> Evidence:
    try:
        parts = load_counts(path)
    except DataError:
        return Evidence()
    semantic = parts.get("semantic")
    matrix = semantic.confusion if isinstance(semantic, SemanticCounts) else None
    return Evidence(image_scores(parts), matrix)


def _order_note(cell: Cell, metric: Metric, count: int, scores: Mapping[Any, Any]) -> str:
    if not scores:
        return f"{count} images in file order: no counts per image were found"
    shown = (
        f"the {count} worst of {len(scores)} images"
        if count < len(scores)
        else f"all {count} images"
    )
    note = f"{shown}, lowest {metric.label} first ({metric.meaning})"
    return note + (
        ". Only detections scored 0.5 or more are drawn" if cell["task"] == "instance" else ""
    )


def _spreads(tables: Sequence[Mapping[Any, float | None]]) -> dict[Any, float]:
    """Return the range of scores of each image that at least two tables score."""
    ids = dict.fromkeys(image for table in tables for image in table)
    known = {i: [v for t in tables if (v := t.get(i)) is not None] for i in ids}
    return {image: max(v) - min(v) for image, v in known.items() if len(v) > 1}


def _is_inside(root: Path, record: ImageRecord) -> bool:
    """Say whether the files of an image are those of its dataset, no links to others."""
    files = [file for file in (record.image, record.semantic, record.panoptic) if file is not None]
    return all(inside(root, file.relative_to(root).as_posix()) is not None for file in files)


def _save_photo(source: Path, target: Path) -> None:
    photo = Image.fromarray(read_image(source))
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    try:
        with atomic_path(target) as temporary:
            photo.save(temporary, format="WEBP", quality=PHOTO_QUALITY, method=4)
    except ValueError as error:
        raise DataError(f"{source} cannot be written as WebP: {error}") from error
