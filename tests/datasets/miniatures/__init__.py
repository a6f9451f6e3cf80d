"""Miniatures of every dataset's archives: one module a dataset, found by name.

A module ``<dataset>.py`` here has ``build(folder)``, which writes one sub-folder an archive of
``INFO.archives``, named as the archive: the exact tree of its members, a few tiny images in it
(an archive that is not a container is a plain file; one of ``Archive.nested`` is a folder of
its name among the members). A dataset without archives writes ``raw/``,
the folder a user would supply. ``OPTIONS`` (optional) are the options of ``prepare``.

A dataset file outside the package may hold both itself: ``miniature(folder)`` in place of
``build`` and ``MINIATURE_OPTIONS``; the folder of a YAML file is made as that file says
(``_custom.py``). A generated dataset needs neither.
"""

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from segbench.core.types import DatasetInfo
from segbench.datasets import dataset_info, dataset_source
from segbench.datasets.registry import YAML, dataset_module

from . import _custom


def builder_of(name: str) -> Callable[[Path], None] | None:
    """Return what writes the archives of a dataset; None for one that is generated."""
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return getattr(importlib.import_module(f"{__name__}.{name}"), "build", None)
    if dataset_source(name).suffix in YAML:
        return partial(_custom.build, name)
    builder = getattr(dataset_module(name), "miniature", None)
    info = dataset_info(name)
    assert builder or not (info.layout or info.archives), (
        f"'{name}' is read from files: add miniatures/{name}.py with build(folder)"
    )
    return builder


def options_of(name: str) -> Mapping[str, Any]:
    """Return the options with which a dataset is small."""
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return getattr(importlib.import_module(f"{__name__}.{name}"), "OPTIONS", {})
    return getattr(dataset_module(name), "MINIATURE_OPTIONS", {})


def build_raw(name: str, folder: Path) -> Path | None:
    """Build the archives of a dataset under ``folder`` and return its raw folder.

    None for a dataset that is generated.
    """
    builder = builder_of(name)
    if builder is None:
        return None
    builder(folder)
    if not (folder / "raw").is_dir():
        unpack(dataset_info(name), folder, folder / "raw")
    return folder / "raw"


def unpack(info: DatasetInfo, archives: Path, raw: Path) -> None:
    """Put the members of built archives where an unpacked download has them."""
    for archive in info.archives:
        built, target = archives / archive.name, raw / archive.unpack_to
        assert built.exists() or archive.optional, f"miniature of {info.name} lacks {archive.name}"
        if built.is_dir():
            shutil.copytree(built, target, dirs_exist_ok=True)
            for member in archive.nested:
                shutil.copytree(target / member, (target / member).parent, dirs_exist_ok=True)
                shutil.rmtree(target / member)
        elif built.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(built, target / archive.name)
