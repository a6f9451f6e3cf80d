"""Code fingerprints: a digest of what code means, wherever it stands and whatever it is called.

A fingerprint covers a source file and every segbench module it imports, directly or not, as
syntax trees without docstrings: comments, formatting, documentation, the place of a file and
the name of a module change nothing; a changed expression does. Snakemake sees fingerprints as
parameters of rules and so reruns exactly the rows whose code changed.

An import of segbench is not part of what a file means. In its place stands what it brings:
each imported name, as it is called where it is defined, with the digest of the defining file.
That digest leaves out what the defining file imports itself, so circles do no harm.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segbench.core.yaml_reader import read_yaml_file

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name
NEUTRAL = frozenset(
    {
        "__init__", "core.errors", "core.faults", "core.fingerprint", "core.folder_lock",
        "core.jit", "core.lease", "core.older_folders", "core.output_files", "core.output_folder",
        "core.paths", "core.pool", "core.processes", "core.progress", "core.provenance",
        "core.quiet_start", "core.seal", "core.stopping", "core.yaml_reader",
        "evaluation.instance.table_oddities", "evaluation.semantic.oddities", "formats.image_size",
        "models.registry", "report.table_checks", "training.checkpoint", "training.trained_run",
        "workflow.config", "workflow.launch", "workflow.stages", "workflow.supervisor",
    }
)  # fmt: skip
"""Modules that cannot change a number: messages, logs, bookkeeping, storage. Whole names."""
READERS = {".yaml": "datasets.custom", ".yml": "datasets.custom"}
"""Module that gives a source which is no Python its meaning."""
MODULE = re.compile(rf"Constant\(value='{NAME}\.([\w.]+)'")


@dataclass(frozen=True)
class Target:
    """Where an imported name is defined; ``name`` is empty for a module as a whole."""

    file: Path
    name: str


@dataclass(frozen=True)
class Source:
    """A parsed file: its tree as text, and what each imported local name stands for."""

    text: str
    imported: dict[str, frozenset[Target]]


def code_fingerprint(sources: Iterable[Path], *, texts: Iterable[Path] = ()) -> str:
    """Return 16 hex digits over the meaning of the sources and all they import here.

    Args:
        sources: Python files, outside the package too, and YAML files of datasets.
        texts: Files that count as they are, as templates and style sheets.
    """
    digest = hashlib.sha256()
    for path in sorted(texts):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for meaning in sorted(_content(path) for path in closure(sources)):
        digest.update(meaning.encode() + b"\0")
    return digest.hexdigest()[:16]


def module_file(name: str) -> Path:
    """Return the source file of a module of this package, as in ``models.fcn``.

    Raises:
        ValueError: There is no such module.
    """
    found = _file_of(name)
    if found is None:
        raise ValueError(f"{NAME}.{name} is no module of {PACKAGE}")
    return found


def closure(sources: Iterable[Path]) -> set[Path]:
    """Return the sources and every file of the package they import, but for neutral ones."""
    todo, seen = list(sources), set[Path]()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_needs(path))
    return seen


def forget() -> None:
    """Forget every file that was read, for a process in which files change."""
    for function in (_needs, _read, _meaning, _own, _neutral, _assigned):
        function.cache_clear()


@cache
def _needs(path: Path) -> frozenset[Path]:
    """Return the files that a file imports, except the neutral ones."""
    if path.suffix in READERS:
        return frozenset({module_file(READERS[path.suffix])})
    targets = {target.file for some in _read(path).imported.values() for target in some}
    return frozenset(targets - _neutral())


@cache
def _neutral() -> frozenset[Path]:
    return frozenset(module_file(name) for name in NEUTRAL)


def _content(path: Path) -> str:
    """Return what a file says, without comments; a user may edit a YAML file at any time."""
    if path.suffix in READERS:
        return json.dumps(read_yaml_file(path).values, default=str)
    return _meaning(path)


@cache
def _meaning(path: Path) -> str:
    """Return the tree of a file with each imported name replaced by what it stands for."""
    return _with_names(_read(path), _token)


def _token(target: Target) -> str:
    digest = "" if target.file in _neutral() else _own(target.file)
    return f"{target.name}@{digest}"


@cache
def _own(path: Path) -> str:
    """Return the digest of a file without what it imports from the package."""
    text = _with_names(_read(path), lambda target: target.name)
    return hashlib.sha256(text.encode()).hexdigest()


def _with_names(source: Source, word: Callable[[Target], str]) -> str:
    """Return the tree with the word of its target for each imported name, and the words."""
    words = {local: "|".join(sorted(map(word, some))) for local, some in source.imported.items()}

    def replace(match: re.Match[str]) -> str:
        return f"Name(id='{words.get(match[1], match[1])}'"

    return re.sub(r"\bName\(id='(\w+)'", replace, source.text) + str(sorted(words.values()))


@cache
def _read(path: Path) -> Source:
    """Parse a file and take its docstrings and its imports of the package out of the tree."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: dict[str, set[Target]] = {}
    for node in list(ast.walk(tree)):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                kept = [s for s in statements if not (_is_text(s) or _taken(s, path, imported))]
                setattr(node, field, kept or ([ast.Pass()] if statements else []))
    names = {local: frozenset(found) for local, found in imported.items()}
    return Source(MODULE.sub(_without_place, ast.dump(tree)), names)


def _without_place(text: re.Match[str]) -> str:
    """Return a string constant; one that is the name of a module says only that."""
    return "Constant(value='a module'" if _file_of(text[1]) else text[0]


def _taken(statement: ast.AST, path: Path, imported: dict[str, set[Target]]) -> bool:
    """Note what an import of the package brings; False for every other statement."""
    if not isinstance(statement, ast.ImportFrom):
        return False
    module = _absolute(statement, path)
    if module is None or _file_of(module or "__init__") is None:
        return False
    for alias in statement.names:
        found = _definition(module, alias.name)
        imported.setdefault(alias.asname or alias.name, set()).add(found)
    return True


def _absolute(statement: ast.ImportFrom, path: Path) -> str | None:
    """Return the module of the package that names are imported from, None for a foreign one."""
    module = statement.module or ""
    if statement.level:
        if not path.is_relative_to(PACKAGE):
            return None
        folder = path.parents[statement.level - 1].relative_to(PACKAGE)
        return ".".join([*folder.parts, *module.split(".")]).strip(".")
    if module == NAME:
        return ""
    return module.removeprefix(f"{NAME}.") if module.startswith(f"{NAME}.") else None


def _definition(module: str, name: str) -> Target:
    """Return where a name is defined that a module has, however often it is handed on."""
    inner = _file_of(f"{module}.{name}".strip("."))
    if inner is not None:
        return Target(inner, "")
    file = module_file(module or "__init__")
    if file not in _neutral() and name not in _assigned(file):
        for statement in _imports_of(file):
            origin = _absolute(statement, file)
            for alias in statement.names:
                if origin is not None and (alias.asname or alias.name) == name:
                    return _definition(origin, alias.name)
    return Target(file, name)


@cache
def _assigned(path: Path) -> frozenset[str]:
    """Return the names that a file defines itself at its top."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names.update(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
    return frozenset(names)


def _imports_of(path: Path) -> Iterator[ast.ImportFrom]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node


def _file_of(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found.is_file() else None


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
