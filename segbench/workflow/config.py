"""What a user writes: one run configuration, submissions, and one flat recipe per experiment.

All are checked completely before anything runs. An unknown key, a wrong type, an unknown
model or dataset is a ``ConfigError`` that names the file, the line, the key and the nearest
right name. There is no inheritance: what a file says is what runs. Recipes: ``training.recipe``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from segbench.core.checked_yaml import Name, Strict, load_yaml
from segbench.core.errors import did_you_mean
from segbench.core.paths import UserPath
from segbench.core.types import Task

CONTROLS = ("oracle", "majority_class", "all_void", "shifted_labels")
"""Rows that need no training and must land where theory says (``segbench.workflow.controls``)."""
Oracle = Literal["semantic", "boxes", "masks"]
ORACLES: tuple[Oracle, ...] = get_args(Oracle)
"""Parts of a panoptic prediction whose place the ground truth can take (``inference.oracles``)."""


def oracle_parts(value: Any) -> tuple[str, ...]:
    """Return the parts that ``semantic+boxes`` names, in the order of ``ORACLES``.

    Raises:
        ValueError: It is no such text, or names a part that is unknown or already named.
    """
    parts = value.split("+") if isinstance(value, str) else [value]
    for part in parts:
        if part not in ORACLES:
            near = did_you_mean(str(part), ORACLES)
            raise ValueError(
                f"expected {', '.join(ORACLES)} or several joined by +, as semantic+boxes.{near}"
            )
    if len(set(parts)) < len(parts):
        raise ValueError("a part is named twice")
    return tuple(part for part in ORACLES if part in parts)


OracleParts = Annotated[tuple[Oracle, ...], BeforeValidator(oracle_parts)]


def oracle_tag(parts: Iterable[str]) -> str:
    """Return how a row is called in which the ground truth stands for ``parts``."""
    return f"oracle:{'+'.join(parts)}"


def oracle_experiment(experiment: str, parts: Iterable[str]) -> str:
    """Return the file-name-safe experiment of such a row; no ``Name`` can be the same."""
    return f"{experiment}@oracle-{'-'.join(parts)}"


class DatasetConfig(Strict):
    """Where a dataset comes from: a folder the user supplies, or options of its generator."""

    raw: UserPath | None = None
    options: dict[str, Any] = {}
    bad_images: Literal["fail", "skip"] = "fail"
    """``skip`` leaves out images that cannot be read; the report says how many and which."""


class Submission(Strict):
    """Predictions made elsewhere, as a row of the board: ``workflow/submissions/<name>.yaml``."""

    dataset: str
    split: str = "val"
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    protocol: str | None = None
    """Protocol id of the one task; None takes the dataset's own of each task."""
    folder: UserPath
    """Prediction files in the layout of ``docs/contracts.md``; its manifest is not needed."""
    display_name: str = ""
    paper: str = ""
    year: Annotated[int, Field(ge=1900, le=2100)] | None = None
    reported: dict[str, Annotated[float, Field(ge=0, le=100)]] = {}
    """Scores the paper states by metric (``miou``), in percent; shown beside ours."""

    @model_validator(mode="after")
    def _consistent(self) -> Submission:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: a task is listed twice")
        if self.protocol is not None and len(self.tasks) > 1:
            raise ValueError("protocol: give one task with it; each task has its own protocols")
        return self


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every random generator takes."""


class RunConfig(Strict):
    """Rows of the board: experiments, controls and submissions on one dataset."""

    dataset: str
    experiments: tuple[Name, ...] = ()
    controls: tuple[Literal["oracle", "majority_class", "all_void", "shifted_labels"], ...] = ()
    submissions: tuple[Name, ...] = ()
    oracles: dict[Name, tuple[OracleParts, ...]] = {}
    """For panoptic experiments of this run: rows with the truth in place of parts of the trained
    network's predictions, as ``{panoptic_fpn_tiny: [semantic, boxes, semantic+boxes]}``."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    split: str = "val"
    iterations: Annotated[int, Field(gt=0)] | None = None
    """Overrides the length of every recipe of this run; shown on the board."""

    @model_validator(mode="after")
    def _names_rows(self) -> RunConfig:
        if not (self.experiments or self.controls or self.submissions):
            raise ValueError("a run names experiments, controls or submissions; this has none")
        return self


class EvaluateConfig(Strict):
    """What is scored besides each task's own numbers."""

    boundary: bool = False
    """Boundary IoU and F, Boundary AP, Boundary PQ: two to ten times the time of scoring."""


class ReportConfig(Strict):
    """How the report is made."""

    title: str = "segbench"
    gallery_images: Annotated[int, Field(ge=0)] = 24
    """Images of each run in the gallery, worst first; 0 makes no pictures."""
    overlay_images: Annotated[int, Field(ge=0)] = 200
    """Images of each run and task whose overlays are drawn beside the predictions."""


def results_path(path: Path) -> Path:
    """Return a results folder whose name Snakemake takes as it is.

    Raises:
        ValueError: It has braces, which are wildcards to Snakemake, or white space at an end.
    """
    text = str(path)
    if "{" in text or "}" in text:
        raise ValueError("braces are not allowed in a path of results")
    if not text.isprintable() or text != text.strip():
        raise ValueError("control characters and white space at its ends are not allowed")
    return path


class Config(Strict):
    """The run configuration, ``config.yaml``."""

    results: Annotated[UserPath, AfterValidator(results_path)] = Path("results")
    experiments_folder: UserPath = Path("workflow/experiments")
    submissions_folder: UserPath = Path("workflow/submissions")
    datasets: dict[str, DatasetConfig] = {}
    runs: tuple[RunConfig, ...]
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    def cells(self) -> Iterator[tuple[RunConfig, str, int]]:
        """Yield every (run, experiment, control or submission, seed) of the board."""
        for run in self.runs:
            for name in (*run.controls, *run.submissions):
                yield run, name, 0
            for name in run.experiments:
                for seed in run.seeds:
                    yield run, name, seed


def load_config(path: Path) -> Config:
    """Read and check a run configuration.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    return load_yaml(Path(path), Config)


def load_submission(path: Path) -> Submission:
    """Read and check a submission file.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    return load_yaml(Path(path), Submission)
