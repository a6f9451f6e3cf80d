"""The list of architectures: read from source text, built on demand.

``segbench models`` and the workflow must know every model without importing torch, so the
list comes from the ``@register_model(...)`` decorators in the source files of
``segbench/models``, whose arguments are literals. Building a model imports its one file.

Folders named in the environment variable ``SEGBENCH_MODELS_PATH`` (separated as in PATH)
are searched too: an architecture of your own is one file there.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.faults import extra_folders, is_memory, note, place_in
from segbench.core.types import Task

MODELS_FOLDER = Path(__file__).parent
PATH_VARIABLE = "SEGBENCH_MODELS_PATH"

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
    task: Task,
    paper: str,
    year: int,
    display_name: str,
    backbone: str = "",
    size: Literal["full", "tiny"] = "full",
    deep: bool = True,
    also: tuple[Task, ...] = (),
    min_batch: int = 1,
) -> Callable[[Builder], Builder]:
    """Register the decorated function as the builder of ``model_id``.

    Every argument must be a literal: the list of models is read without running the file.
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
            fix="decorate the builder with segbench.models.registry.register_model",
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
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return tuple(
        _read_decorator(decorator, source)
        for function in functions
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == "register_model"
    )


def _read_decorator(call: ast.Call, source: Path) -> ModelInfo:
    try:
        fields = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        model_id = ast.literal_eval(call.args[0])
        _check_types(model_id, fields)
        return ModelInfo(
            id=model_id,
            family=source.stem,
            source=str(source),
            backbone=fields.pop("backbone", ""),
            size=fields.pop("size", "full"),
            **fields,
        )
    except (ValueError, IndexError, TypeError) as error:
        raise ConfigError(
            f"{source}:{call.lineno}: @register_model needs an id and literal "
            f"task, paper, year, display_name: {error}"
        ) from error


def _check_types(model_id: Any, fields: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a value that the list of models could not show."""
    given = {"id": model_id, **fields}
    for key in ("id", "task", "paper", "display_name", "backbone", "size"):
        if not isinstance(given.get(key, ""), str):
            raise ValueError(f"{key} is {given[key]!r}, expected a text")
    for key in ("year", "min_batch"):
        if not isinstance(given.get(key, 0), int):
            raise ValueError(f"{key} is {given[key]!r}, expected a number")
    for task in (given.get("task", "semantic"), *given.get("also", ())):
        if task not in get_args(Task):
            raise ValueError(f"task is {task!r}, expected one of {', '.join(get_args(Task))}")
    if given.get("size", "full") not in ("full", "tiny"):
        raise ValueError(f"size is {given['size']!r}, expected 'full' or 'tiny'")


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
