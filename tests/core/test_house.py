"""The layout of the package: rooms, circles of imports, sizes of files and functions."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "segbench"
OUTSIDE = {"__init__.py", "__main__.py", "py.typed"}


def modules(package: Path) -> dict[str, Path]:
    """Return every module of a package with its file."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: Path) -> dict[str, set[str]]:
    """Return what each module imports of its package, in functions and for types too."""
    files = modules(package)
    return {name: set(_imports(path, files)) - {name} for name, path in files.items()}


def _imports(path: Path, files: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module in files:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in files else node.module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that import each other, directly or not."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        todo, seen = [start], set[str]()
        while todo:
            for name in graph[todo.pop()] - seen:
                seen.add(name)
                todo.append(name)
        reach[start] = seen
    found = [{b for b in reach[a] if a in reach[b]} for a in graph if a in reach[a]]
    return [circle for place, circle in enumerate(found) if circle not in found[:place]]


def test_no_modules_import_each_other() -> None:
    assert circles(imports(PACKAGE)) == []


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from house import b\n")
    (package / "b.py").write_text("def f():\n    from house.c import x\n")
    (package / "c.py").write_text("if TYPE_CHECKING:\n    from house.a import y\n")
    (package / "d.py").write_text("from house.a import y\n")
    assert circles(imports(package)) == [{"house.a", "house.b", "house.c"}]


def test_the_package_has_rooms_and_nothing_beside_them() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries >= OUTSIDE
    assert len(entries - OUTSIDE) <= 14
    assert all((PACKAGE / name).is_dir() for name in entries - OUTSIDE)


def test_files_and_functions_stay_small() -> None:
    lines, lengths = {}, []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines[path.relative_to(PACKAGE).as_posix()] = text.count("\n")
        lengths += [
            node.end_lineno - node.lineno + 1
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
        ]
    assert {name: count for name, count in lines.items() if count > 400} == {}
    assert statistics.median(lengths) <= 10
