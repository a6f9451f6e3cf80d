"""The list of datasets: every Python file of this folder that has a line ``INFO = ...``.

``workflow/datasets`` and the folders named in the environment variable
``SEGBENCH_DATASETS_PATH`` (separated as in PATH) are searched too: a dataset of your own is
one file there, Python or YAML (:mod:`segbench.datasets.custom`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import cast

from segbench.datasets.source import DatasetModule
from segbench.errors import ConfigError, did_you_mean
from segbench.paths import CHECKOUT, first_folder
from segbench.types import DatasetInfo

DATASETS_FOLDER = Path(__file__).parent
PATH_VARIABLE = "SEGBENCH_DATASETS_PATH"
USER_FOLDER = Path("workflow/datasets")
"""Datasets of the checkout: in the current folder, else where this package lies."""
YAML = (".yaml", ".yml")


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
    """Return the Python or YAML file of a dataset, for code fingerprints."""
    return Path(str(cast(ModuleType, dataset_module(name)).__file__))


def _modules() -> dict[str, DatasetModule]:
    modules: dict[str, DatasetModule] = {}
    for source in _dataset_files():
        module = _load(source)
        name = module.INFO.name
        if name != source.stem:
            raise ConfigError(f"{source}: INFO.name is '{name}', expected '{source.stem}'")
        if name in modules:
            raise ConfigError(f"dataset '{name}' is defined twice, the second time in {source}")
        modules[name] = module
    return modules


def _dataset_files() -> list[Path]:
    """Return the files of datasets; a folder that is named twice counts once."""
    extra = [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    users = first_folder(USER_FOLDER, (Path(), CHECKOUT))
    folders = {folder.resolve(): folder for folder in (DATASETS_FOLDER, users, *extra)}
    return [
        file
        for folder in folders.values()
        for suffix in (".py", *YAML)
        for file in sorted(folder.glob(f"*{suffix}"))
        if _is_dataset(file)
    ]


def _is_dataset(source: Path) -> bool:
    """Tell from the text, so that the other modules of this folder are not imported."""
    pattern = r"^(folder|classes)\s*:" if source.suffix in YAML else r"^INFO\b"
    return re.search(pattern, source.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _load(source: Path) -> DatasetModule:
    if source.suffix in YAML:
        return _read_yaml(source.absolute(), source.stat().st_mtime_ns)
    return cast(DatasetModule, _import(source))


@lru_cache(maxsize=256)
def _read_yaml(source: Path, changed: int) -> DatasetModule:
    """Read a YAML file, again when it has changed; by name, as Python files are imported."""
    del changed
    reader = importlib.import_module("segbench.datasets.custom")
    return cast(DatasetModule, reader.load_custom(source))


@cache
def _import(source: Path) -> ModuleType:
    if source.parent == DATASETS_FOLDER:
        return importlib.import_module(f"segbench.datasets.{source.stem}")
    package = "segbench_datasets_path"
    name = f"{package}.{source.stem}"
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise ConfigError(f"cannot import {source}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(package, ModuleType(package))  # so that its functions can be pickled
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"cannot import {source}: {type(error).__name__}: {error}") from error
    return module
