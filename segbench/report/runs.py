"""One trained (or control) run as the report shows it: scores, classes, provenance, logs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segbench.core.errors import DataError
from segbench.core.files import read_json, read_jsonl
from segbench.core.types import IntArray
from segbench.evaluation.metrics import MISSING, PER_CLASS, Metric, metrics_of, primary
from segbench.report.costs import duration
from segbench.report.paths import inside_file
from segbench.report.rows import Cell, slug, status_of

LOG_BYTES = 200_000
"""Longest part of a log that is copied into the report: its end."""
LOG_LINES = 15
MATRIX_CLASSES = 30
"""Above this many classes the confusion matrix is a chart instead of a table."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True)
class Log:
    """The end of one log file; ``text`` has no terminal codes."""

    name: str
    href: str
    text: str
    cut: bool

    @property
    def tail(self) -> str:
        return "\n".join(self.text.rstrip().splitlines()[-LOG_LINES:])


@dataclass(frozen=True)
class Run:
    """One (dataset, experiment, seed) with the cells of its tasks."""

    dataset: str
    experiment: str
    seed: int
    cells: tuple[Cell, ...]

    @property
    def slug(self) -> str:
        return run_slug(self.cells[0])

    @property
    def name(self) -> str:
        return str(self.cells[0].get("display_name") or self.experiment)

    @property
    def kind(self) -> str:
        return str(self.cells[0]["kind"])

    @property
    def oracle(self) -> Mapping[str, Any] | None:
        """Whose predictions these are and which parts are the ground truth; None for other rows."""
        return self.cells[0].get("oracle")

    @property
    def scored(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if status_of(cell) == "ok")

    @property
    def in_doubt(self) -> bool:
        """Say whether a file of the run is not its own, so that no file can be relied on."""
        return any(status_of(cell) in ("foreign", "damaged") for cell in self.cells)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not shown though the run has a score, and why."""
        return tuple(dict.fromkeys(note for cell in self.cells for note in cell.get("notes", ())))

    @property
    def model_id(self) -> str:
        named = [c.get("model") or (c.get("record") or {}).get("model") for c in self.cells]
        return next((str(name) for name in named if name), "")

    @property
    def profile(self) -> Mapping[str, Any]:
        return next((cell["profile"] for cell in self.cells if cell.get("profile")), {})

    @property
    def folder(self) -> str:
        return str(self.cells[0]["run_folder"])


def run_slug(cell: Cell) -> str:
    """Return the file name of a cell's run page, without ending."""
    return slug(cell["dataset"], cell["experiment"], f"seed{cell['seed']}")


def build_runs(table: Mapping[str, Any]) -> list[Run]:
    """Group the cells of a table into runs, in the order of the table."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in table["cells"]:
        key = (cell["dataset"], cell["experiment"], int(cell["seed"]))
        groups.setdefault(key, []).append(cell)
    return [Run(*key, cells=tuple(cells)) for key, cells in groups.items()]


def read_log(path: Path, name: str, href: str) -> Log | None:
    """Read the end of a log; None when there is no such file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - LOG_BYTES))
            data = stream.read()
    except OSError:
        return None
    text = _ANSI.sub("", data.decode("utf-8", errors="replace").replace("\r", "\n"))
    return Log(name, href, text, size > LOG_BYTES)


def score_rows(cell: Cell) -> list[tuple[Metric, str]]:
    """Return the scores of a record that leaderboards show, as (metric, text)."""
    scores = cell["record"]["scores"]
    return [(m, m.text(scores[m.key])) for m in metrics_of(cell["task"]) if m.key in scores]


def more_scores(cell: Cell) -> list[tuple[str, str]]:
    """Return every other number of a record as (key, text): fractions in percent, counts whole."""
    known = {metric.key for metric in metrics_of(cell["task"])} | _IOU_KEYS
    rows = []
    for key, value in cell["record"]["scores"].items():
        if key not in known and (value is None or isinstance(value, int | float)):
            whole = isinstance(value, int)
            metric = Metric(key, key, "", "", 1.0 if whole else 100.0, 0 if whole else 1)
            rows.append((key, metric.text(value)))
    return rows


_KINDS = {"": "Masks", "box_": "Boxes", "boundary_": "Boundaries"}
_PERCENTS = tuple(range(50, 100, 5))
_IOU_KEYS = {f"{prefix}ap{percent}" for prefix in _KINDS for percent in _PERCENTS}


@dataclass(frozen=True)
class IouTable:
    """AP at each IoU threshold: ``rows`` are (what was matched, one text a threshold)."""

    thresholds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def iou_table(cell: Cell) -> IouTable | None:
    """Return AP by IoU threshold; None where a record does not hold it."""
    scores, metric = cell["record"]["scores"], primary(cell["task"])
    rows = []
    for prefix, label in _KINDS.items():
        keys = [f"{prefix}ap{percent}" for percent in _PERCENTS]
        if all(key in scores for key in keys):
            rows.append((label, tuple(metric.text(scores[key]) for key in keys)))
    if not rows:
        return None
    return IouTable(tuple(f"{percent / 100:.2f}" for percent in _PERCENTS), tuple(rows))


def headline(cell: Cell) -> str:
    """Return the primary score of a cell as shown."""
    metric = primary(cell["task"])
    return metric.text(cell["record"]["scores"].get(metric.key))


@dataclass(frozen=True)
class ClassTable:
    """Per-class scores: the columns that have a value somewhere, and one row a class."""

    metrics: tuple[Metric, ...]
    extra: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


def class_table(cell: Cell) -> ClassTable:
    """Return the per-class table of a record; counts such as ``tp`` become extra columns."""
    rows = tuple(cell["record"].get("per_class") or ())
    keys = {key for row in rows for key in row}
    metrics = tuple(m for m in PER_CLASS[cell["task"]] if m.key in keys)
    known = {m.key for m in metrics} | {"id", "name", "color", "isthing"}
    extra = [
        key for row in rows for key, v in row.items() if isinstance(v, int) and key not in known
    ]
    return ClassTable(metrics, tuple(dict.fromkeys(extra)), rows)


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix ready to show; rows are truth, columns prediction.

    ``shares`` [C, C or C+1] are fractions of each true class; ``void_column`` says that the
    last column gathers predictions that are no class.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, ...], ...]
    shares: np.ndarray[Any, np.dtype[np.float64]]
    pixels: IntArray
    void_column: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.names, "no class") if self.void_column else self.names

    @property
    def as_table(self) -> bool:
        return len(self.names) <= MATRIX_CLASSES

    def worst(self, limit: int = 8) -> list[dict[str, Any]]:
        """Return the largest mistakes by share of the true class."""
        wrong = self.shares.copy()
        np.fill_diagonal(wrong, 0.0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        places = [np.unravel_index(int(i), wrong.shape) for i in order]
        return [
            {
                "truth": self.names[int(t)],
                "prediction": self.columns[int(p)],
                "share": float(wrong[t, p]),
                "pixels": int(self.pixels[t, p]),
            }
            for t, p in places
            if wrong[t, p] > 0
        ]


def confusion_of(matrix: IntArray, categories: Sequence[Mapping[str, Any]]) -> Confusion:
    """Normalise a pooled [C+1, C+1] confusion matrix by row.

    Void truth (the last row) is left out; the last column stays when anything is in it.
    """
    labelled = matrix[:-1]
    void = bool(labelled[:, -1].any())
    counts = labelled if void else labelled[:, :-1]
    totals = labelled.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = tuple(str(category["name"]) for category in categories)
    colors = tuple(tuple(category["color"]) for category in categories)
    return Confusion(names, colors, shares, counts, void)


def training_facts(results: Path, run: Run) -> dict[str, Any]:
    """Return what the trainer wrote beside the weights (``recipe.json``).

    Empty without it, and where it may be of another run or no longer what was written.
    """
    path = inside_file(results, run.folder, "recipe.json")
    if run.in_doubt or path is None:
        return {}
    try:
        facts = read_json(path)
    except DataError:
        return {}
    return facts if isinstance(facts, dict) else {}


def recipe_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the recipe in what the trainer wrote as (key, value) texts."""
    recipe = facts.get("recipe", {})
    return [(str(k), "none" if v is None else _plain(v)) for k, v in recipe.items()]


def train_log(results: Path, run: Run) -> list[dict[str, Any]]:
    """Return the training log of a run; empty where there is none to rely on."""
    path = inside_file(results, run.folder, "train_log.jsonl")
    if run.in_doubt or path is None:
        return []
    try:
        return read_jsonl(path)
    except DataError:
        return []


_TRAINING = (
    "iterations", "images_seen", "attempts", "damaged_checkpoints", "device", "precision",
    "threads", "processes",
)  # fmt: skip


def provenance_rows(run: Run, facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what made the numbers of a run as titled (name, value) lists.

    Args:
        run: The run.
        facts: What the trainer wrote (``training_facts``).
    """
    record = run.scored[0]["record"] if run.scored else {}
    origin = record.get("provenance", {})
    times = {k: duration(v) for k, v in origin.get("wall_time_s", {}).items()}
    code = {
        "segbench": origin.get("segbench"),
        "commit": origin.get("commit"),
        "uncommitted changes": {True: "yes", False: "no"}.get(origin.get("dirty")),
        "seed": run.seed if run.scored else None,
        "scored at": origin.get("created"),
    }
    sections = {
        "Code": code,
        "Wall time": times,
        "Training": {key: facts.get(key) for key in _TRAINING},
        "First weights": _first_weights(facts.get("init")),
        "Digests": record.get("digests", {}),
        "Hardware": {**_mapping(origin.get("hardware")), "device": origin.get("device")},
        "Cost": run.profile,
        "Versions": origin.get("versions", {}),
    }
    listed = {title: _listed(values) for title, values in sections.items()}
    return [(title, rows) for title, rows in listed.items() if rows]


def _first_weights(start: Any) -> dict[str, Any]:
    """Return what a training took from the weights that its recipe starts from."""
    if not isinstance(start, Mapping):
        return {}
    counts = {"not in them": len(start["kept"]), "not used": len(start["unused"])}
    return {
        "from": start["from"],
        "sha256": start["weights"],
        "tensors taken": start["taken"],
        **counts,
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"machine": value}


def _listed(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(k).replace("_", " "), _plain(v)) for k, v in values.items() if v is not None]


def _plain(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
