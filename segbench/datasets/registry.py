"""The list of datasets: every Python file of this folder that has a line ``INFO = ...``.

``workflow/datasets`` and the folders named in the environment variable
``SEGBENCH_DATASETS_PATH`` (separated as in PATH) are searched too: a dataset of your own is
one file there, Python or YAML (:mod:`segbench.datasets.custom`).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import cast

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.faults import extra_folders, is_memory, note, place_in
from segbench.core.paths import CHECKOUT, first_folder
from segbench.core.types import DatasetInfo
from segbench.datasets.source import DatasetModule

DATASETS_FOLDER = Path(__file__).parent
PATH_VARIABLE = "SEGBENCH_DATASETS_PATH"
USER_FOLDER = Path("workflow/datasets")
"""Datasets of the checkout: in the current folder, else where this package lies."""
YAML = (".yaml", ".yml")


def dataset_infos() -> dict[str, DatasetInfo]:
    """Return every dataset by name, in the order of folders and files.

    A file of the user's that is broken is named on standard error and passed over.

    Raises:
        ConfigError: A name is taken twice.
    """
    modules, broken = _modules()
    for error in broken.values():
        note(f"{error.what}; this dataset is passed over")
    return {name: module.INFO for name, module in modules.items()}


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known of one dataset; ``ConfigError`` with a suggestion if unknown."""
    return dataset_module(name).INFO


def dataset_module(name: str) -> DatasetModule:
    """Return the module of one dataset; ``ConfigError`` if its file is broken or there is none."""
    modules, broken = _modules()
    if name in broken:
        raise broken[name]
    if name not in modules:
        raise ConfigError(
            f"unknown dataset '{name}'.{did_you_mean(name, modules)}",
            fix="`segbench datasets` lists every dataset",
        )
    return modules[name]


def dataset_source(name: str) -> Path:
    """Return the Python or YAML file of a dataset, for code fingerprints."""
    return Path(str(cast(ModuleType, dataset_module(name)).__file__))


def _modules() -> tuple[dict[str, DatasetModule], dict[str, ConfigError]]:
    """Return the datasets by name, and what is wrong with files that are none by their stems."""
    modules: dict[str, DatasetModule] = {}
    broken: dict[str, ConfigError] = {}
    for source in _dataset_files():
        try:
            if not _is_dataset(source):
                continue
            module = _named(source)
        except ConfigError as error:
            broken[source.stem] = error
            continue
        if source.stem in modules:
            raise ConfigError(
                f"dataset '{source.stem}' is defined twice, the second time in {source}"
            )
        modules[source.stem] = module
    return modules, broken


def _named(source: Path) -> DatasetModule:
    module = _load(source)
    if not isinstance(module.INFO, DatasetInfo):
        raise ConfigError(
            f"{source}: INFO is of type {type(module.INFO).__name__}, expected DatasetInfo"
        )
    if module.INFO.name != source.stem:
        raise ConfigError(f"{source}: INFO.name is '{module.INFO.name}', expected '{source.stem}'")
    return module


def _dataset_files() -> list[Path]:
    """Return the files that may be datasets; a folder that is named twice counts once."""
    users = first_folder(USER_FOLDER, (Path(), CHECKOUT))
    named = (DATASETS_FOLDER, users, *extra_folders(PATH_VARIABLE))
    folders = {folder.resolve(): folder for folder in named}
    return [
        file
        for folder in folders.values()
        for suffix in (".py", *YAML)
        for file in sorted(folder.glob(f"*{suffix}"))
        if not file.name.startswith(".")
    ]


def _is_dataset(source: Path) -> bool:
    """Tell from the text, so that the other modules of this folder are not imported."""
    pattern = r"^(folder|classes)\s*:" if source.suffix in YAML else r"^INFO\b"
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(place_in(source, error)) from error
    return re.search(pattern, text, re.MULTILINE) is not None


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
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if is_memory(error):
            raise
        raise ConfigError(
            f"cannot import a dataset: {place_in(source, error)}", fix="correct the file"
        ) from error
    return module
