"""The list of datasets: every Python file of this folder that has a line ``INFO = ...``.

Folders named in the environment variable ``SEGBENCH_DATASETS_PATH`` (separated as in PATH)
are searched too: a dataset of your own is one file there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from segbench.datasets.source import DatasetModule
from segbench.errors import ConfigError, did_you_mean
from segbench.types import DatasetInfo

DATASETS_FOLDER = Path(__file__).parent
PATH_VARIABLE = "SEGBENCH_DATASETS_PATH"


def dataset_infos() -> dict[str, DatasetInfo]:
    """Return every dataset by name, in the order of folders and files.

    Raises:
        ConfigError: A file cannot be imported, names itself wrongly, or a name is taken twice.
    """
    return {name: module.INFO for name, module in _modules().items()}


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known of one dataset; ``ConfigError`` with a suggestion if unknown."""
    return dataset_module(name).INFO


def dataset_module(name: str) -> DatasetModule:
    """Return the module of one dataset; ``ConfigError`` with a suggestion if unknown."""
    modules = _modules()
    if name not in modules:
        raise ConfigError(
            f"unknown dataset '{name}'.{did_you_mean(name, modules)}",
            fix="`segbench datasets` lists every dataset",
        )
    return modules[name]


def dataset_source(name: str) -> Path:
    """Return the Python file of a dataset, for code fingerprints."""
    return Path(str(cast(ModuleType, dataset_module(name)).__file__))


def _modules() -> dict[str, DatasetModule]:
    modules: dict[str, DatasetModule] = {}
    for source in _dataset_files():
        module = cast(DatasetModule, _import(source))
        name = module.INFO.name
        if name != source.stem:
            raise ConfigError(f"{source}: INFO.name is '{name}', expected '{source.stem}'")
        if name in modules:
            raise ConfigError(f"dataset '{name}' is defined twice, the second time in {source}")
        modules[name] = module
    return modules


def _dataset_files() -> list[Path]:
    extra = [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    folders = [DATASETS_FOLDER, *extra]
    return [f for folder in folders for f in sorted(folder.glob("*.py")) if _is_dataset(f)]


def _is_dataset(source: Path) -> bool:
    """Tell from the text, so that the other modules of this folder are not imported."""
    return re.search(r"^INFO\b", source.read_text(encoding="utf-8"), re.MULTILINE) is not None


@cache
def _import(source: Path) -> ModuleType:
    if source.parent == DATASETS_FOLDER:
        return importlib.import_module(f"segbench.datasets.{source.stem}")
    name = f"segbench_datasets_path.{source.stem}"
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise ConfigError(f"cannot import {source}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"cannot import {source}: {type(error).__name__}: {error}") from error
    return module
