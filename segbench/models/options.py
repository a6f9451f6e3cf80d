"""Options of a recipe against the builder of its model, from source text: no torch, no import.

A builder may pass on what it takes by ``**options``; then the function or class that it returns a
call of is read too, as far as it stands in its file or in a module of segbench it imports.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from segbench.core.errors import did_you_mean
from segbench.models.registry import ModelInfo

PACKAGE = Path(__file__).parents[1]
_DEEPEST = 6
"""Calls that hand options on to each other."""
_IS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "int": ("an integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "str": ("text", lambda v: isinstance(v, str)),
}
"""By annotation: what it is called, and whether a value is one."""


@dataclass(frozen=True)
class Options:
    """Keyword options by name with their annotations; ``complete``: no other is taken."""

    annotations: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def option_mistakes(info: ModelInfo, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each option that the builder does not take or not with this type, and why.

    Args:
        info: The model.
        options: ``model_options`` of a recipe, and ``backbone_weights`` where it names some.
    """
    source = Path(info.source)
    known = builder_options(source, source.stat().st_mtime_ns, info.id)
    for name, value in options.items():
        if name not in known.annotations:
            if known.complete:
                near = did_you_mean(name, known.annotations)
                names = ", ".join(sorted(known.annotations)) or "none"
                yield name, f"model '{info.id}' has no option '{name}'.{near} Its options: {names}"
            continue
        wanted = _expected(known.annotations[name], value)
        if wanted:
            yield name, f"model '{info.id}', option '{name}': expected {wanted}, found {value!r}"


def _expected(annotation: str, value: Any) -> str:
    """Return what an annotation asks for where the value is none of it, else nothing."""
    parts = [part.strip() for part in annotation.split("|")]
    if "None" in parts and value is None:
        return ""
    kinds = [_IS[part] for part in parts if part in _IS]
    if len(kinds) + ("None" in parts) < len(parts) or any(is_one(value) for _, is_one in kinds):
        return ""
    return " or ".join(name for name, _ in kinds)


@cache
def builder_options(source: Path, modified_ns: int, model_id: str) -> Options:
    """Return the options of the builder that a file registers under an id."""
    del modified_ns
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and model_id in _registered(node):
            return _options(node, tree, depth=0)
    return Options(complete=False)


def _registered(function: ast.FunctionDef) -> Iterator[str]:
    for call in function.decorator_list:
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
            yield str(call.args[0].value)


def _options(
    function: ast.FunctionDef, tree: ast.Module, depth: int, positional: int | None = None
) -> Options:
    """Return what a function takes by keyword once so many arguments are given by position."""
    arguments = function.args
    named = [*([] if positional is None else arguments.args[positional:]), *arguments.kwonlyargs]
    found = {a.arg: "" if a.annotation is None else ast.unparse(a.annotation) for a in named}
    if arguments.kwarg is None:
        return Options(found)
    carriers = _carriers(function, arguments.kwarg.arg)
    calls = [call for call in ast.walk(function) if _passes_on(call, carriers)]
    if not calls or depth == _DEEPEST:
        return Options(found, complete=False)
    complete = True
    for call in calls:
        assert isinstance(call, ast.Call)
        target = _target(call.func, tree)
        inner = Options(complete=False)
        if target is not None:
            first = len(call.args) + (target[0].name == "__init__")
            inner = _options(*target, depth + 1, first)
        given = {keyword.arg for keyword in call.keywords}
        taken = {k: v for k, v in inner.annotations.items() if k not in given}
        found, complete = {**taken, **found}, complete and inner.complete
    return Options(found, complete)


def _carriers(function: ast.FunctionDef, options: str) -> frozenset[str]:
    """Return the local names that hold the options: their own, and those made of them."""
    found = {options}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _mentions(node.value, found):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def _mentions(node: ast.expr, names: Collection[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _passes_on(node: ast.AST, names: Collection[str]) -> bool:
    """Say whether a node is a call that hands one of the names on by ``**``."""
    return isinstance(node, ast.Call) and any(
        keyword.arg is None and _mentions(keyword.value, names) for keyword in node.keywords
    )


def _target(called: ast.expr, tree: ast.Module) -> tuple[ast.FunctionDef, ast.Module] | None:
    """Return the function, or the ``__init__`` of the class, that an expression calls."""
    if not isinstance(called, ast.Name):
        return None
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef) and node.name == called.id:
            return node, tree
        if isinstance(node, ast.ClassDef) and node.name == called.id:
            own = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
            return (own[0], tree) if own else None
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("segbench."):
            original = next((a.name for a in node.names if called.id in (a.asname, a.name)), None)
            place = PACKAGE.joinpath(*node.module.split(".")[1:])
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            if original and file.is_file():
                return _target(ast.Name(original), _parsed(file))
    return None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements at the top of a file, those under an ``if`` included."""
    for node in tree.body:
        yield from node.body if isinstance(node, ast.If) else [node]


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
