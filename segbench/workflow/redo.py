"""What a row of the board has left in the results folder, stage by stage, to be made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

from segbench.core.errors import ConfigError, LeaseHeld, did_you_mean
from segbench.core.lease import Lease
from segbench.workflow.cell import Cell
from segbench.workflow.plan import Plan

Stage = Literal["train", "predict", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)
FILES: dict[Stage, tuple[str, ...]] = {
    "evaluate": (
        "evaluation/*/records.json",
        "evaluation/*/*/record.json",
        "evaluation/*/*/counts.npz",
        "overlays/*/overlays.json",
        "overlays/*/*/*.webp",
    ),
    "predict": (
        "predictions/*/manifest.json",
        "predictions/*/instances.json",
        "predictions/*/panoptic.json",
        "predictions/*/semantic/*.png",
        "predictions/*/panoptic/*.png",
    ),
    "train": ("recipe.json", "train_log.jsonl", "weights.safetensors"),
}
"""Files of each stage in the folder of a row; those that say 'done' come first."""
STATE = ("*/checkpoint-*", "*/diverged.json", "*/train_log.jsonl", "*/owner-*.json", "*/lock")


def find_row(plan: Plan, name: str) -> Cell:
    """Return the row that is called ``dataset/experiment/seedK``; the seed may be left out.

    Raises:
        ConfigError: There is no such row, or several.
    """
    rows = {cell.folder.as_posix(): cell for cell in plan.by_key.values()}
    name = name.strip("/")
    found = [cell for row, cell in rows.items() if name in (row, row.rpartition("/")[0])]
    if len(found) == 1:
        return found[0]
    if found:
        seeds = ", ".join(cell.folder.name for cell in found)
        raise ConfigError(f"'{name}' has several seeds: {seeds}", fix=f"{name}/{seeds[:5]}")
    parts = [row for row in rows if name and name in row.split("/")]
    hint = did_you_mean(name, rows) or did_you_mean(next(iter(parts), ""), parts)
    raise ConfigError(
        f"{plan.source} has no row '{name}'.{hint}",
        fix="a row is called dataset/experiment/seedK, as its folder in the results",
    )


def first_stage(cell: Cell, wanted: Stage | None) -> Stage:
    """Return the stage to begin with: the one wanted, or the first that a row has.

    Raises:
        ConfigError: It is to be trained, but another row's weights predict, or none.
    """
    if wanted == "train" and not cell.is_trained:
        network = f"{cell.trained_folder.as_posix()} is the row that is trained"
        raise ConfigError(
            f"{cell.folder.as_posix()} is not trained, it is {cell.kind} row",
            fix=network if cell.oracles else "--from predict",
        )
    return wanted or ("train" if cell.is_trained else "predict")


def files_from(plan: Plan, cell: Cell, stage: Stage) -> list[Path]:
    """Return the files of a stage and of all after it that exist, in the order to remove them.

    Whatever segbench did not write there is not among them, nor is anything behind a link that
    leads out of the results folder.
    """
    row = plan.results / cell.folder
    found: list[Path] = []
    for name in reversed(STAGES[STAGES.index(stage) :]):
        found += _inside(plan.results, row, FILES[name])
    if stage == "train":
        found += _inside(plan.results, plan.results / "state" / cell.folder, STATE)
    return found


def remove(files: list[Path], results: Path) -> None:
    """Remove files, and the folders below the results folder that are empty then."""
    for file in files:
        file.unlink(missing_ok=True)
    for folder in sorted({p for f in files for p in f.parents}, key=lambda p: -len(p.parts)):
        inside = folder.is_relative_to(results) and folder != results
        if inside and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def untrained(plan: Plan, cell: Cell) -> Iterator[None]:
    """Keep every trainer from a row while the block runs.

    Raises:
        LeaseHeld: One is at work, as a job on a cluster whose launch was killed.
    """
    folders = [path.parent for path in (plan.results / "state" / cell.folder).glob("*/lock")]
    with ExitStack() as stack:
        for folder in folders:
            try:
                stack.enter_context(Lease(folder, waits=False, command="segbench redo"))
            except LeaseHeld as held:
                raise LeaseHeld(
                    f"{cell.folder.as_posix()} is being trained by {held.what}",
                    fix="end it first, or wait for it",
                ) from None
        yield


def _inside(results: Path, folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    root = results.resolve()
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and path.parent.resolve().is_relative_to(root):
                yield path
