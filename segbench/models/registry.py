"""The list of architectures: read from source text, built on demand.

``segbench models`` and the workflow must know every model without importing torch, so the
list comes from the ``@register_model(...)`` decorators in the source files of
``segbench/models``, whose arguments are literals or constants of the file. What the models of a
file share stands once at its top: ``PAPER = "..."``, ``YEAR = 2015``, ``TASK = "semantic"``,
and where needed ``ALSO`` and ``MIN_BATCH``. A decorator states what differs. Building a model
imports its one file.

Folders named in the environment variable ``SEGBENCH_MODELS_PATH`` (separated as in PATH)
are searched too: an architecture of your own is one file there.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.faults import extra_folders, is_memory, note, place_in
from segbench.core.types import TASKS, Task

MODELS_FOLDER = Path(__file__).parent
PATH_VARIABLE = "SEGBENCH_MODELS_PATH"
SHARED = ("TASK", "ALSO", "PAPER", "YEAR", "MIN_BATCH")
"""Constants at the top of a file that its decorators need not repeat."""
_TEXT = (lambda value: isinstance(value, str), "a text")
_NUMBER = (lambda value: isinstance(value, int), "a number")
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("id", "paper", "display_name", "backbone"), _TEXT),
    **dict.fromkeys(("year", "min_batch"), _NUMBER),
    "task": (lambda value: value in TASKS, f"one of {', '.join(TASKS)}"),
    "also": (
        lambda value: isinstance(value, tuple | list) and all(task in TASKS for task in value),
        f"a tuple of {', '.join(TASKS)}",
    ),
    "size": (lambda value: value in ("full", "tiny"), "'full' or 'tiny'"),
}
"""By field: whether the list of models could show a value, and what it should be."""

Builder = TypeVar("Builder", bound=Callable[..., Any])
_builders: dict[tuple[str, Path], Callable[..., Any]] = {}
"""Builders by id and source file: two folders may each have a model of one name."""


@dataclass(frozen=True)
class ModelInfo:
    """One registered architecture, as its decorator states it."""

    id: str
    task: Task
    paper: str
    year: int
    display_name: str
    backbone: str
    size: Literal["full", "tiny"]
    family: str
    """Name of the source file, without ``.py``."""
    source: str
    """Path of the source file."""
    deep: bool = True
    """False: a classical method, whose features are not learned and whose steps are no tensor
    operations, so that it cannot be exported; the report says so."""
    also: tuple[Task, ...] = ()
    """Other tasks that a recipe may train it for. A panoptic builder is then given all classes
    as stuff (semantic), or the things and no stuff (instance)."""

    min_batch: int = 1
    """Fewest images of a training step; 2 where batch normalisation follows global pooling, which
    leaves one value of each image."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks of recipes that may name the model."""
        return (self.task, *self.also)

    @property
    def classes(self) -> str:
        """What ``--num-classes`` counts for this model."""
        if self.task == "panoptic" and "semantic" in self.also:
            return "things+stuff, as 80+53, or all classes of a semantic task, as 150"
        return {
            "semantic": "output channels",
            "instance": "things + 1 (background)",
            "panoptic": "things+stuff, as 80+53",
        }[self.task]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for ``segbench models --json``; no path of this machine."""
        source = Path(self.source).name
        return {**asdict(self), "source": source, "name": self.id, "classes": self.classes}


def register_model(
    model_id: str,
    *,
    display_name: str,
    task: Task | None = None,
    paper: str | None = None,
    year: int | None = None,
    backbone: str = "",
    size: Literal["full", "tiny"] = "full",
    deep: bool = True,
    also: tuple[Task, ...] | None = None,
    min_batch: int | None = None,
) -> Callable[[Builder], Builder]:
    """Register the decorated function as the builder of ``model_id``.

    The list of models is read without running the file. So every argument is a literal, or the
    name of a constant that the file sets to a literal at its top. ``task``, ``also``, ``paper``,
    ``year`` and ``min_batch`` default to the constants ``TASK``, ``ALSO``, ``PAPER``, ``YEAR`` and
    ``MIN_BATCH`` of the file; without them ``also`` is empty and ``min_batch`` 1.

    Builders of semantic and instance models take ``num_classes`` first, those of panoptic
    models ``num_things, num_stuff``; all take keyword options after it.
    """

    def register(builder: Builder) -> Builder:
        _builders[model_id, Path(inspect.getfile(builder)).resolve()] = builder
        return builder

    return register


def model_infos() -> dict[str, ModelInfo]:
    """Return every registered architecture by id, in the order of files and lines.

    A file of the user's that cannot be read is named on standard error and passed over.

    Raises:
        ConfigError: An id is registered twice.
    """
    infos: dict[str, ModelInfo] = {}
    for source in _model_files():
        for info in _readable(source):
            if info.id in infos:
                raise ConfigError(
                    f"model '{info.id}' is registered in {infos[info.id].source} and in {source}",
                    fix="give one of them another id",
                )
            infos[info.id] = info
    return infos


def model_info(model_id: str) -> ModelInfo:
    """Return one architecture's entry; unknown ids are a ``ConfigError`` with a suggestion."""
    infos = model_infos()
    if model_id not in infos:
        raise ConfigError(
            f"unknown model '{model_id}'.{did_you_mean(model_id, infos)}",
            fix="`segbench models` lists every model",
        )
    return infos[model_id]


def create_model(model_id: str, *args: Any, **options: Any) -> Any:
    """Build a model (a ``torch.nn.Module``); this imports torch and the model's file.

    Args:
        model_id: A registered id.
        *args: ``num_classes``, or ``num_things, num_stuff`` for panoptic models.
        **options: Options of the builder.

    Raises:
        ConfigError: The id is unknown or the builder does not take an option.
    """
    builder = builder_of(model_id)
    try:
        return builder(*args, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        source = model_info(model_id).source
        raise ConfigError(f"model '{model_id}': {error}", fix=f"see {source}") from error


def builder_of(model_id: str) -> Callable[..., Any]:
    """Return the function that builds a model; this imports torch and the model's file."""
    source = Path(model_info(model_id).source)
    key = model_id, source.resolve()
    if key not in _builders:
        _import_source(source)
    if key not in _builders:
        raise ConfigError(
            f"{source}: importing it registers no model '{model_id}'",
            fix="decorate the builder with segbench.models.register_model",
        )
    return _builders[key]


def _model_files() -> list[Path]:
    folders = {f.resolve(): f for f in (MODELS_FOLDER, *extra_folders(PATH_VARIABLE))}.values()
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return [f for f in files if f.stem != "__init__" and not f.name.startswith(".")]


def _readable(source: Path) -> tuple[ModelInfo, ...]:
    try:
        return _scan(source, source.stat().st_mtime_ns)
    except ConfigError as error:
        fault = str(error.what)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        fault = place_in(source, error)
    note(f"{fault}; the models of this file are passed over")
    return ()


@cache
def _scan(source: Path, modified_ns: int) -> tuple[ModelInfo, ...]:
    """Return the models of a file; a plan asks for them once an experiment."""
    tree = ast.parse(source.read_text(encoding="utf-8"), filename=str(source))
    constants = dict(_constants(tree))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return tuple(
        _read_decorator(decorator, constants, source)
        for function in functions
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == "register_model"
    )


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a file assigns at its top, and their values unread."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((t.id, node.value) for t in targets if isinstance(t, ast.Name))


def _read_decorator(call: ast.Call, constants: dict[str, ast.expr], source: Path) -> ModelInfo:
    place = f"{source}:{call.lineno}: @register_model"
    stated = {name.lower(): constants[name] for name in SHARED if name in constants}
    stated |= {str(keyword.arg): keyword.value for keyword in call.keywords}
    for name in ("task", "paper", "year"):
        if name not in stated:
            raise ConfigError(f"{place} states no {name}, and the file has no {name.upper()}")
    if not call.args:
        raise ConfigError(f"{place} needs an id")
    stated["id"] = call.args[0]
    fields = {name: _literal(name, node, constants, source) for name, node in stated.items()}
    fields = {"backbone": "", "size": "full", **fields}
    try:
        return ModelInfo(family=source.stem, source=str(source), **fields)
    except TypeError as error:
        raise ConfigError(f"{place}: {error}") from error


def _literal(name: str, node: ast.expr, constants: dict[str, ast.expr], source: Path) -> Any:
    """Return the value of a field, which may stand in a constant of the file.

    Raises:
        ConfigError: It is no literal, or the list of models could not show it.
    """
    if isinstance(node, ast.Name):
        node = constants.get(node.id, node)
    place = f"{source}:{node.lineno}: @register_model"
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        found = ast.unparse(node)
        raise ConfigError(f"{place} needs a literal {name}, found {found}") from error
    is_valid, expected = _KINDS.get(name, (None, ""))
    if is_valid is not None and not is_valid(value):
        raise ConfigError(f"{place}: {name} is {value!r}, expected {expected}")
    return value


def _import_source(source: Path) -> None:
    if source.parent == MODELS_FOLDER:
        importlib.import_module(f"segbench.models.{source.stem}")
        return
    name = f"segbench_models_path.{source.stem}"
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise ConfigError(f"cannot import {source}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if is_memory(error):
            raise
        raise ConfigError(
            f"cannot import a model: {place_in(source, error)}", fix="correct the file"
        ) from error
