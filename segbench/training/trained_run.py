"""What training left of itself: ``recipe.json``, checked before its weights are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.core import provenance
from segbench.core.errors import DataError, ForeignFile
from segbench.core.seal import read_sealed
from segbench.formats.prepared import PreparedDataset
from segbench.training.recipe import AFTER_TRAINING, WITHOUT_EFFECT, Recipe, recipe_digest

NAME = "recipe.json"
WEIGHTS = "weights.safetensors"
LOG = "train_log.jsonl"
SHOWN = 3
_KINDS: dict[str, type] = {
    "recipe": dict,
    "recipe_digest": str,
    "data_digest": str,
    "seed": int,
    "categories": list,
    "files": dict,
}
"""Kind of each part that later stages read."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished training: its folder and the content of ``recipe.json``."""

    folder: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> TrainedRun:
        """Read what training wrote last.

        Raises:
            DataError: The training is not finished, or its ``recipe.json`` was changed.
            ForeignFile: It was made by an older segbench.
        """
        path = Path(folder) / NAME
        again = f"train it again: remove {folder} and run the same command"
        if not path.exists():
            raise DataError(f"{folder} is no finished training: it has no {NAME}", fix=again)
        facts = read_sealed(path, again=again)
        wrong = [k for k, kind in _KINDS.items() if not isinstance(facts.get(k), kind)]
        if wrong:
            raise DataError(f"{path}: missing or of a wrong kind: {', '.join(wrong)}", fix=again)
        return cls(Path(folder), facts)

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def weights_digest(self) -> str:
        """Return the sha256 of the weights as training wrote them."""
        return str(self.facts["files"].get(WEIGHTS))

    @property
    def iterations(self) -> int:
        """Return the length it was trained in."""
        return int(self.facts["recipe"].get("iterations", 0))

    def check_recipe(self, recipe: Recipe, name: str) -> None:
        """Refuse weights of another recipe; what is read after training alone may differ.

        Raises:
            ForeignFile: Naming the fields that differ.
        """
        if recipe_digest(recipe) == self.facts["recipe_digest"]:
            return
        raise ForeignFile(
            f"{self.folder} was trained by another recipe than {name}: {self._differing(recipe)}",
            fix="predict with the recipe it was trained by, or train this one",
        )

    def _differing(self, recipe: Recipe) -> str:
        mine, other = recipe.model_dump(mode="json"), self.facts["recipe"]
        keys = [
            key
            for key in sorted(mine.keys() | other.keys())
            if key not in AFTER_TRAINING | WITHOUT_EFFECT and mine.get(key) != other.get(key)
        ]
        told = [f"{key} {other.get(key)!r}, not {mine.get(key)!r}" for key in keys[:SHOWN]]
        return ", ".join(told) or "its digest differs"

    def check_classes(self, dataset: PreparedDataset) -> None:
        """Refuse a dataset of another name or of other classes than the run was trained on.

        Raises:
            ForeignFile: Naming both.
        """
        trained_on = self.facts["recipe"].get("dataset")
        if trained_on != dataset.name:
            raise ForeignFile(
                f"{self.folder} was trained on dataset '{trained_on}', not '{dataset.name}'",
                fix="give the prepared dataset that it was trained on by --data",
            )
        names = list(dataset.table.names)
        if self.facts["categories"] != names:
            raise ForeignFile(
                f"{self.folder} was trained on other classes than {dataset.root} has: "
                f"{len(self.facts['categories'])} then, {len(names)} now, or in another order",
                fix="prepare the dataset as it was, or train again",
            )

    def check_weights(self) -> str:
        """Return the digest of the weights once it is the one that training recorded.

        Raises:
            DataError: They are missing or were changed.
        """
        if not self.weights.is_file():
            raise DataError(f"{self.weights} does not exist", fix="train the experiment first")
        found = provenance.file_digest(self.weights)
        if found != self.weights_digest:
            raise DataError(
                f"{self.weights} is not what training wrote: its digest is {found[:12]}..., "
                f"{NAME} says {self.weights_digest[:12]}...",
                fix=f"restore it from a backup, or train it again: remove {self.folder} and run "
                "the same command",
            )
        return found
