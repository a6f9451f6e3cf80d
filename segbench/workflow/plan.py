"""From a run configuration to the cells of the board, checked before anything runs.

A cell is one experiment, control or submission on one dataset with one seed; it is scored
for one or more tasks. The workflow, the collector and the command line read the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from segbench.core import provenance
from segbench.core.checked_yaml import key_line
from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.paths import CHECKOUT, first_folder, given
from segbench.core.types import DatasetInfo
from segbench.datasets import dataset_info
from segbench.evaluation.metrics import metrics_of
from segbench.evaluation.protocol import get_protocol
from segbench.models.registry import ModelInfo, model_info
from segbench.training.recipe import Recipe, inference_digest, load_recipe, recipe_digest
from segbench.workflow.base_runs import Key, base_key, unlisted_bases
from segbench.workflow.batch_rules import check_batch
from segbench.workflow.cell import SCORED, Cell
from segbench.workflow.config import (
    CONTROLS,
    Config,
    DatasetConfig,
    RunConfig,
    Submission,
    load_config,
    load_submission,
    oracle_experiment,
    results_path,
)
from segbench.workflow.plan_checks import Mistakes, check_dataset_options, check_recipe
from segbench.workflow.results_place import check_results
from segbench.workflow.stages import stage_fingerprint


@dataclass(frozen=True)
class Plan:
    """A checked configuration and its cells."""

    source: Path
    config: Config
    cells: tuple[Cell, ...] = field(default=())
    bases: tuple[Cell, ...] = field(default=())
    """Runs that cells start from and that are not on the board."""

    @property
    def results(self) -> Path:
        return self.config.results

    @cached_property
    def by_key(self) -> dict[tuple[str, str, int], Cell]:
        return {cell.key: cell for cell in (*self.bases, *self.cells)}

    @cached_property
    def trained(self) -> tuple[Cell, ...]:
        """Every run that is trained, those first that others may wait for."""
        return tuple(cell for cell in (*self.bases, *self.cells) if cell.is_trained)

    def base_of(self, cell: Cell) -> Cell | None:
        """Return the run whose weights a cell starts from."""
        key = base_key(cell)
        return None if key is None else self.by_key[key]

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.dataset for cell in self.cells))

    def dataset_config(self, name: str) -> DatasetConfig:
        """Return how a dataset is configured; absent entries mean the defaults."""
        return self.config.datasets.get(name, DatasetConfig())

    def records(self) -> list[Path]:
        """Return the records of every cell, relative to the results folder."""
        return [cell.folder / "evaluation" / cell.split / "records.json" for cell in self.cells]

    def overlays(self) -> list[Path]:
        """Return the overlays of every cell, relative to the results folder."""
        return [cell.folder / "overlays" / cell.split / "overlays.json" for cell in self.cells]

    def train_fingerprint(self, cell: Cell) -> str:
        """Digest of the recipe, all code and the first weights, which decide a cell's weights."""
        if cell.recipe is None or cell.model is None:
            raise ValueError(f"{cell.experiment} is not trained")
        code = stage_fingerprint("train", Path(cell.model.source))
        own = f"{recipe_digest(cell.recipe)}-{code}"
        first = [provenance.file_digest(file) for file in cell.recipe.first_weights]
        base = self.base_of(cell)
        if base is not None:
            first.append(self.train_fingerprint(base))
        return f"{own}-{provenance.json_digest(first)}" if first else own

    def predict_fingerprint(self, cell: Cell) -> str:
        """Digest of what decides the predictions from given weights, or of another row."""
        if cell.submission is not None:
            return stage_fingerprint("submit")
        if cell.recipe is None or cell.model is None:
            return stage_fingerprint("control")
        code = stage_fingerprint("predict", Path(cell.model.source))
        return f"{inference_digest(cell.recipe)}-{code}"


def load_plan(path: Path, *, results: Path | str | None = None) -> Plan:
    """Read a configuration, its recipes, models and datasets, and check them all.

    Args:
        path: The configuration, ``config.yaml``.
        results: Results folder to use instead of the one the configuration names; the same
            text as there is none.

    Raises:
        ConfigError: Naming the file and the nearest right name.
    """
    config = _placed(load_config(path), path, results)
    mistakes = Mistakes()
    for name in config.datasets:
        with mistakes.kept():
            _dataset(name, path)
    board = [(run, cell) for run in config.runs for cell in _cells(run, config, path, mistakes)]
    cells = tuple(cell for _, cell in board)
    for name, entry in config.datasets.items():
        with mistakes.kept():
            check_dataset_options(path, dataset_info(name), entry.options, _splits(name, cells))
    mistakes.refuse()
    if not cells:
        raise ConfigError(f"{path}: runs names no experiment, no control and no submission")
    seen: set[tuple[str, str, int]] = set()
    for cell in cells:
        if cell.key in seen:
            raise ConfigError(f"{path}: {'/'.join(map(str, cell.key))} is listed twice")
        seen.add(cell.key)
    bases = unlisted_bases(board, lambda run, key: _base(run, key, config, path))
    return Plan(path, config, cells, bases)


def _placed(config: Config, path: Path, results: Path | str | None) -> Config:
    """Return the configuration with its folders where they are, once results may lie there.

    Recipes are looked for in the current folder, beside the configuration, in the checkout.
    """
    source = f"{path}:{key_line(path, 'results')}: results"
    chosen = config.results if results is None else given(results, "--results")
    if chosen != config.results:
        source = "--results"
        try:
            results_path(chosen)
        except ValueError as error:
            raise ConfigError(f"{source}: {error} (found '{chosen}')") from None
    bases = (Path(), path.parent, CHECKOUT)
    config = config.model_copy(
        update={
            "results": chosen,
            "experiments_folder": first_folder(config.experiments_folder, bases),
            "submissions_folder": first_folder(config.submissions_folder, bases),
        }
    )
    check_results(config, source)
    return config


def _base(run: RunConfig, key: Key, config: Config, path: Path) -> Cell:
    """Return the cell of a run that is needed by one of ``run``, as if that listed it."""
    dataset, experiment, seed = key
    splits = _dataset(dataset, path).splits
    split = run.split if run.split in splits else next(iter(splits))
    alone = RunConfig(
        dataset=dataset,
        experiments=(experiment,),
        seeds=(seed,),
        split=split,
        iterations=run.iterations,
    )
    mistakes = Mistakes()
    cells = list(_cells(alone, config, path, mistakes))
    mistakes.refuse()
    return cells[0]


def _splits(dataset: str, cells: Iterable[Cell]) -> dict[str, str]:
    """Return the splits of a dataset that must have images, each with a row that needs it."""
    own = [cell for cell in cells if cell.dataset == dataset]
    scored = {cell.split: cell.experiment for cell in own}
    trained = {cell.recipe.train_split: cell.experiment for cell in own if cell.recipe}
    return {**scored, **trained}


def _dataset(name: str, path: Path) -> DatasetInfo:
    try:
        info = dataset_info(name)
        for task, protocol in info.protocols.items():
            get_protocol(protocol, task=task)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", fix=error.fix) from None
    return info


def _cells(run: RunConfig, config: Config, path: Path, mistakes: Mistakes) -> Iterator[Cell]:
    """Yield the cells of a run that can be meant; what is wrong about others is kept."""
    with mistakes.kept():
        info = _dataset(run.dataset, path)
        for name in run.oracles:
            if name not in run.experiments:
                raise ConfigError(
                    f"{path}: oracles: '{name}' is no experiment of this run."
                    f"{did_you_mean(name, run.experiments)}",
                    fix="list it under experiments too: its trained network predicts",
                )
        if run.controls or run.experiments:
            _known(path, f"split of '{run.dataset}'", [run.split], [*info.splits])
        for control in run.controls:
            yield Cell(run.dataset, control, 0, run.split, info.tasks)
        for experiment in run.experiments:
            with mistakes.kept():
                yield from _experiment_cells(experiment, run, info, config, path)
        for name in run.submissions:
            with mistakes.kept():
                yield _submission_cell(name, run, config, path)


def _experiment_cells(
    experiment: str, run: RunConfig, info: DatasetInfo, config: Config, path: Path
) -> Iterator[Cell]:
    if experiment in CONTROLS:
        raise ConfigError(f"{path}: '{experiment}' is a control: list it under controls")
    file = config.experiments_folder / run.dataset / f"{experiment}.yaml"
    recipe = _recipe(file, run, info)
    model = _model(file, recipe)
    check_recipe(file, recipe, model, info)
    tasks = tuple(task for task in SCORED[recipe.task] if task in info.tasks)
    cells = [
        Cell(run.dataset, experiment, seed, run.split, tasks, recipe, file, model)
        for seed in run.seeds
    ]
    yield from cells
    yield from _oracle_cells(run, experiment, cells, path)


def _submission_cell(name: str, run: RunConfig, config: Config, path: Path) -> Cell:
    file = config.submissions_folder / f"{name}.yaml"
    entry = _submission(file, run.dataset, config, path)
    return Cell(
        run.dataset, name, 0, entry.split, entry.tasks, submission=entry, submission_file=file
    )


def _oracle_cells(
    run: RunConfig, experiment: str, cells: Sequence[Cell], path: Path
) -> Iterator[Cell]:
    """Yield the rows of a trained experiment with the truth in place of some of its parts."""
    for parts in run.oracles.get(experiment, ()):
        for cell in cells:
            if cell.recipe is not None and cell.recipe.task != "panoptic":
                raise ConfigError(
                    f"{path}: oracles: '{experiment}' is a {cell.recipe.task} experiment, and "
                    "oracles are for panoptic ones",
                    fix=f"remove '{experiment}' from oracles",
                )
            name = oracle_experiment(experiment, parts)
            yield replace(cell, experiment=name, oracles=parts, trained_as=experiment)


def _submission(file: Path, dataset: str, config: Config, path: Path) -> Submission:
    if file.stem in CONTROLS or any(config.experiments_folder.glob(f"*/{file.name}")):
        raise ConfigError(
            f"{path}: submissions: '{file.stem}' is also a control or an experiment",
            fix="name the submission's file differently",
        )
    submission = load_submission(file)
    check_submission(submission, file)
    if submission.dataset != dataset:
        raise ConfigError(f"{file}: dataset: expected '{dataset}', found '{submission.dataset}'")
    return submission


def check_submission(submission: Submission, file: Path) -> None:
    """Check the names in a submission against the registries.

    Raises:
        ConfigError: Naming file, key and the nearest right name.
    """
    try:
        info = dataset_info(submission.dataset)
        if submission.protocol is not None:
            get_protocol(submission.protocol, task=submission.tasks[0])
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.what}", fix=error.fix) from None
    metrics = [metric.key for task in submission.tasks for metric in metrics_of(task)]
    _known(file, "split", [submission.split], [*info.splits])
    _known(file, "tasks", submission.tasks, info.tasks)
    _known(file, "reported", submission.reported, metrics)


def _known(file: Path, key: str, found: Iterable[str], known: Sequence[str]) -> None:
    for name in found:
        if name not in known:
            raise ConfigError(
                f"{file}: {key}: expected one of {', '.join(known)}, found '{name}'."
                f"{did_you_mean(name, known)}"
            )


def _recipe(file: Path, run: RunConfig, info: DatasetInfo) -> Recipe:
    recipe = shorten(_read_recipe(file), run.iterations)
    if recipe.dataset != run.dataset:
        raise ConfigError(f"{file}: dataset: expected '{run.dataset}', found '{recipe.dataset}'")
    if recipe.task not in info.tasks:
        raise ConfigError(f"{file}: {info.name} has no {recipe.task} truth, only {info.tasks}")
    for split in (recipe.train_split, run.split):
        if split not in info.splits:
            raise ConfigError(f"{file}: {info.name} has no split '{split}', only {[*info.splits]}")
    return recipe


def _read_recipe(file: Path) -> Recipe:
    try:
        return load_recipe(file)
    except ConfigError as error:
        if file.exists():
            raise
        fix = "run this in the top folder of the checkout, or set experiments_folder"
        folder = file.parents[1]
        if not folder.is_dir():
            state = "is no folder" if folder.exists() else "does not exist"
            raise ConfigError(f"experiments_folder: {folder} {state}", fix=fix) from None
        raise ConfigError(error.what, fix=fix) from None


def _model(file: Path, recipe: Recipe) -> ModelInfo:
    try:
        model = model_info(recipe.model)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.what}", fix=error.fix) from None
    if recipe.task not in model.tasks:
        kinds = " or ".join(model.tasks)
        raise ConfigError(f"{file}: {model.id} is a {kinds} model, the task is {recipe.task}")
    check_batch(recipe, model, str(file))
    return model


def shorten(recipe: Recipe, iterations: int | None) -> Recipe:
    """Return the recipe with another length, its warm-up scaled alike; None changes nothing."""
    if iterations is None or iterations == recipe.iterations:
        return recipe
    warmup = recipe.warmup_iterations * iterations // recipe.iterations
    return recipe.model_copy(update={"iterations": iterations, "warmup_iterations": warmup})
