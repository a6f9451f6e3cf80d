"""A cell of the board: one dataset, experiment and seed, as it is known before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segbench.core.types import Kind, Task
from segbench.models.registry import ModelInfo
from segbench.training.recipe import Recipe
from segbench.workflow.config import Oracle, Submission, oracle_tag

SCORED: dict[Task, tuple[Task, ...]] = {
    "semantic": ("semantic",),
    "instance": ("instance",),
    "panoptic": ("panoptic", "instance", "semantic"),
}
"""Tasks whose ground truth a network of each task is scored against."""


@dataclass(frozen=True)
class Cell:
    """One row of the board before it has scores."""

    dataset: str
    experiment: str
    seed: int
    split: str
    tasks: tuple[Task, ...]
    recipe: Recipe | None = None
    """None for controls and submissions."""
    recipe_file: Path | None = None
    model: ModelInfo | None = None
    submission: Submission | None = None
    submission_file: Path | None = None
    oracles: tuple[Oracle, ...] = ()
    """Parts whose place the ground truth takes in the predictions of ``trained_as``."""
    trained_as: str = ""
    """Experiment whose weights predict; another one than ``experiment`` for oracles alone."""

    @property
    def kind(self) -> Kind:
        """Where the predictions come from."""
        if self.recipe is not None:
            return "oracle" if self.oracles else "trained"
        return "control" if self.submission is None else "submission"

    @property
    def is_control(self) -> bool:
        return self.kind == "control"

    @property
    def is_trained(self) -> bool:
        return self.kind == "trained"

    @property
    def key(self) -> tuple[str, str, int]:
        return self.dataset, self.experiment, self.seed

    @property
    def folder(self) -> Path:
        """Folder of the run, relative to the results folder."""
        return Path(self.dataset, self.experiment, f"seed{self.seed}")

    @property
    def trained_folder(self) -> Path:
        """Folder of the run whose weights predict, relative to the results folder."""
        return Path(self.dataset, self.trained_as or self.experiment, f"seed{self.seed}")

    @property
    def display_name(self) -> str:
        if self.submission is not None and self.submission.display_name:
            return self.submission.display_name
        if self.model is None:
            return self.experiment.replace("_", " ")
        name = self.model.display_name + ("" if self.recipe is None else self.recipe.name_suffix)
        trained_as = self.trained_as or self.experiment
        name = name if trained_as == self.model.id else f"{name} [{trained_as}]"
        return f"{name}, {oracle_tag(self.oracles)}" if self.oracles else name
