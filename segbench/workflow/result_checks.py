"""Is a record that of its cell, and whole? Asked before a number is shown.

A cell says what should have been run; the files in its folder say what was. A file that is
there and differs costs the cell its score (``foreign`` where it belongs to something else,
``damaged`` where it is no longer what was written). A large file that was deleted costs
nothing: the records hold digests of what they were made from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segbench.core.errors import ConfigError, DataError, ForeignFile, SegbenchError
from segbench.core.seal import read_sealed
from segbench.core.types import Task
from segbench.evaluation.counts import load_counts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.scores import score_parts
from segbench.formats.manifest import NAME as MANIFEST
from segbench.formats.manifest import read_manifest
from segbench.formats.prepared import PreparedDataset
from segbench.training.recipe import inference_digest, recipe_digest
from segbench.training.trained_run import TrainedRun
from segbench.workflow.cell import Cell
from segbench.workflow.digest_cache import DigestCache
from segbench.workflow.record_files import again_of, check_counts, check_predictions, read_records

TOLERANCE = 1e-9
"""Two machines may add fractions in another order."""


@dataclass(frozen=True)
class ResultChecks:
    """Checks the files of a results folder against the cells of a plan."""

    root: Path
    digests: DigestCache

    def record(self, cell: Cell, task: Task) -> dict[str, Any]:
        """Return the record of a cell and task.

        Raises:
            ForeignFile: It, or what it was made from, belongs to something else.
            DataError: It, or what it was made from, is damaged.
        """
        run = self.root / cell.folder
        folder = run / "evaluation" / cell.split
        record = next((r for r in read_records(folder) if r["task"] == task), None)
        if record is None:
            raise DataError(f"{folder / 'records.json'} has no {task} record", fix=again_of(folder))
        facts = {**record, **{f"{key} digest": v for key, v in record["digests"].items()}}
        dataset = self._dataset(cell.dataset)
        _same(self._expected(cell, task, dataset), facts, folder)
        if cell.recipe is not None:
            self._check_run(cell, record)
        predictions = run / "predictions" / cell.split
        if (predictions / MANIFEST).exists():
            check_predictions(record, read_manifest(predictions), predictions)
        check_scores(record, check_counts(record, folder), again=again_of(folder))
        return record

    def profile(self, cell: Cell) -> dict[str, Any] | None:
        """Return what a trained cell's model costs; None where that was not measured.

        Raises:
            ForeignFile: It is of another model.
            DataError: It is damaged.
        """
        path = self.root / cell.folder / "profile.json"
        if cell.recipe is None or not path.exists():
            return None
        again = f"remove {path} and run again"
        found = read_sealed(path, again=again)
        expected = {
            "model": cell.recipe.model,
            "options": cell.recipe.model_dump(mode="json")["model_options"],
            "input_size": list(cell.recipe.profile_size),
        }
        for key, value in expected.items():
            if found.get(key) != value:
                told = f"{path} is of {key} {found.get(key)}, not {value}"
                raise ForeignFile(told, fix=again)
        return found

    def dataset(self, name: str) -> dict[str, Any] | None:
        """Return the description of a prepared dataset; None where there is no whole one."""
        try:
            return self._dataset(name).description
        except SegbenchError:
            return None

    def _dataset(self, name: str) -> PreparedDataset:
        if name not in self._datasets:
            self._datasets[name] = PreparedDataset.open(self.root / "data" / name)
        return self._datasets[name]

    @cached_property
    def _datasets(self) -> dict[str, PreparedDataset]:
        return {}

    def _expected(self, cell: Cell, task: Task, dataset: PreparedDataset) -> dict[str, Any]:
        """Return what the facts of a record must be."""
        asked = cell.submission.protocol if cell.submission else None
        expected = {
            "dataset": cell.dataset,
            "experiment": cell.experiment,
            "kind": cell.kind,
            "oracles": list(cell.oracles),
            "model": cell.model.id if cell.model else None,
            "seed": cell.seed,
            "split": cell.split,
            "protocol": asked or dataset.protocol(task),
            "num_images": dataset.description["splits"].get(cell.split),
            "data digest": dataset.digest,
        }
        if cell.recipe is not None:
            expected |= {
                "recipe digest": recipe_digest(cell.recipe),
                "inference digest": inference_digest(cell.recipe),
                "trained_on digest": dataset.digest,
            }
        return expected

    def _check_run(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Refuse a record of other weights than those that were trained for its cell."""
        run = TrainedRun.open(self.root / cell.trained_folder)
        again = f"remove {run.folder} and run again"
        expected = {
            "weights": record["digests"].get("weights"),
            "recipe": record["digests"].get("recipe"),
            "seed": cell.seed,
        }
        found = {
            "weights": run.weights_digest,
            "recipe": run.facts["recipe_digest"],
            "seed": run.facts["seed"],
        }
        for key, value in expected.items():
            if found[key] != value:
                raise ForeignFile(
                    f"{run.folder / 'recipe.json'} is of {key} {_short(found[key])}, what was "
                    f"scored of {key} {_short(value)}",
                    fix=again,
                )
        for name, digest in run.facts["files"].items():
            path = run.folder / name
            if path.exists() and self.digests.of(path) != digest:
                raise DataError(f"{path} is not what training wrote", fix=again)


def _same(expected: Mapping[str, Any], found: Mapping[str, Any], folder: Path) -> None:
    """Refuse a record whose facts are not those of its cell."""
    for key, value in expected.items():
        if found.get(key) != value:
            raise ForeignFile(
                f"records.json is of {key} {_short(found.get(key))}, not {_short(value)}",
                fix=again_of(folder),
            )


def check_scores(record: Mapping[str, Any], counts: Path, *, again: str) -> None:
    """Refuse scores that are no fractions or are not those of the counts.

    Raises:
        DataError: Naming the score.
    """
    scores = record["scores"]
    for name, value in scores.items():
        if not _possible(value):
            raise DataError(f"records.json: {name} is {value}, which no score can be", fix=again)
    try:
        found = score_parts(load_counts(counts), get_protocol(record["protocol"]))
    except (ConfigError, DataError) as error:
        raise DataError(f"{counts} cannot be scored: {error.what}", fix=again) from error
    found.pop("per_class")
    for name in sorted(scores.keys() | found.keys()):
        if not _equal(scores.get(name), found.get(name)):
            raise DataError(
                f"records.json: {name} is {scores.get(name)}, its counts give {found.get(name)}",
                fix=again,
            )


def _possible(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 if isinstance(value, int) else math.isfinite(value) and 0 <= value <= 1


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=0, abs_tol=TOLERANCE)


def _short(value: Any) -> str:
    """Return a value for an error; a digest by its beginning."""
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else f"'{text}'" if isinstance(value, str) else text
