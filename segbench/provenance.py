"""What made a number: digests of files, code, data and recipe, versions and hardware.

A code fingerprint covers a source file and every segbench module it imports, directly or
not, as syntax trees without docstrings: comments, formatting and documentation change
nothing, a changed expression does. Snakemake sees the fingerprint as a parameter of a rule
and so reruns exactly the rows whose code changed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from segbench import __version__

PACKAGE = Path(__file__).parent
NEUTRAL = frozenset(
    {"errors", "progress", "provenance", "registry", "config", "lease", "checkpoint", "__init__"}
    | {"pool", "jit"}
)
"""Modules that cannot change a number: messages, logs, bookkeeping, storage."""
READERS = {".yaml": "datasets.custom", ".yml": "datasets.custom"}
"""Module that gives a source which is no Python its meaning."""
PACKAGES = (
    "numba", "numpy", "pillow", "pycocotools", "scikit-image", "scikit-learn", "scipy",
    "timm", "torch", "torchvision",
)  # fmt: skip


def file_digest(path: Path) -> str:
    """Return the sha256 of a file as hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_digest(value: Any) -> str:
    """Return 16 hex digits over a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def code_fingerprint(sources: Iterable[Path], *, texts: Iterable[Path] = ()) -> str:
    """Return 16 hex digits over the meaning of the sources and all they import here.

    Args:
        sources: Python files, outside the package too, and YAML files of datasets.
        texts: Files that count as they are, as templates and style sheets.
    """
    digest = hashlib.sha256()
    for path in sorted(texts):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    # several files may have one name: their content, not their place, keeps the order fixed
    meanings = sorted((path.name, _content(path)) for path in _closure(tuple(sources)))
    for name, meaning in meanings:
        digest.update(Path(name).stem.encode() + b"\0" + meaning.encode() + b"\0")
    return digest.hexdigest()[:16]


def module_file(name: str) -> Path:
    """Return the source file of a module of this package, as in ``models.fcn``."""
    path = PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _closure(sources: tuple[Path, ...]) -> set[Path]:
    todo, seen = list(sources), set[Path]()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_imports(path))
    return seen


@cache
def _imports(path: Path) -> frozenset[Path]:
    """Return the segbench modules a file imports, except the neutral ones."""
    if path.suffix in READERS:
        return frozenset({module_file(READERS[path.suffix])})
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    inside = {name.removeprefix("segbench.") for name in names if name.startswith("segbench.")}
    return frozenset(
        file
        for name in inside
        if name.split(".")[0] not in NEUTRAL and (file := module_file(name)).is_file()
    )


def _content(path: Path) -> str:
    """Return what a file says, without comments; a user may edit a YAML file at any time."""
    if path.suffix in READERS:
        return json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), default=str)
    return _meaning(path)


@cache
def _meaning(path: Path) -> str:
    """Return the syntax tree of a file without docstrings, positions and comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [n for n in node.body if not _is_text(n)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def versions() -> dict[str, str]:
    """Return the versions of segbench, Python and the packages that decide numbers."""
    found = {"segbench": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Return the processor, the number of cores and the memory of this machine."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(_memory_bytes() / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


@cache
def git_commit() -> tuple[str | None, bool]:
    """Return the commit this package's source stands at and whether files differ from it."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None, False
    return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PACKAGE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
