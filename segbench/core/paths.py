"""Paths as users write them, and places that no command may take for its output.

``~``, ``$NAME`` and ``${NAME}`` are expanded by :func:`expand` alone: in configurations,
recipes, submissions and dataset files, and on the command line where a shell has not done it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from segbench.core.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]
"""Where this package lies: the checkout, unless it is installed as a wheel."""
SOURCES = (
    "segbench", "workflow", "report", "tests", "docs", "benchmarks", "envs", "slurm", ".git",
    ".github", ".ci",
)  # fmt: skip
"""Folders of a checkout that hold what is tracked."""
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What file managers leave in a folder that was looked at."""
_VARIABLE = re.compile(r"\$(?:(?P<escape>\$)|(?P<bare>[A-Za-z_]\w*)|\{(?P<braced>\w+)\})", re.ASCII)


def expand(text: str) -> str:
    """Return a path with ``~``, ``~user``, ``$NAME`` and ``${NAME}`` replaced; ``$$`` is ``$``.

    Raises:
        ValueError: A variable is not set or empty, or there is no such user.
    """

    def value(found: re.Match[str]) -> str:
        name = found["bare"] or found["braced"]
        if name is None:
            return "$"
        if not os.environ.get(name):
            raise ValueError(f"the environment variable {name} is not set; for a plain $ write $$")
        return os.environ[name]

    first, slash, rest = text.partition("/")
    if first.startswith("~"):
        home = os.path.expanduser(first)  # noqa: PTH111 (it never raises)
        if home == first:
            raise ValueError(f"there is no user for {first}")
        first = home
    else:
        first = _VARIABLE.sub(value, first)
    return f"{first}{slash}{_VARIABLE.sub(value, rest)}"


def _expanded(value: Any) -> Any:
    if value is None:
        raise ValueError("expected a path; a ~ alone means nothing in YAML, write its name out")
    if not isinstance(value, str | Path):
        raise ValueError(f"expected a path, found a value of type {type(value).__name__}")
    return expand(os.fspath(value))


UserPath = Annotated[Path, BeforeValidator(_expanded)]
"""A path in a file that a user writes."""
UserPathText = Annotated[str, Field(min_length=1), BeforeValidator(_expanded)]
"""A text that may be a path; words such as ``none`` stay as they are."""


def given(path: str | Path, option: str) -> Path:
    """Return a path of the command line, where a shell may have left ``~`` and variables.

    A ``$`` that is part of the name of something that exists is taken as written.

    Raises:
        ConfigError: Naming the option and what cannot be expanded.
    """
    text = os.fspath(path)
    steps = [Path(text), *Path(text).parents]
    literal = any("$" in step.name and os.path.lexists(step) for step in steps)
    try:
        return Path(expand(text.replace("$", "$$") if literal else text))
    except ValueError as error:
        raise ConfigError(f"{option}: {error} (found '{text}')") from None


@dataclass(frozen=True)
class Input:
    """Something a command reads; ``what`` is the option that names it.

    ``may_hold``: outputs may lie inside it, as predictions do in the folder of their run.
    """

    path: Path
    what: str
    may_hold: bool = False


def output_place(
    out: Path, *, option: str = "--out", inputs: Iterable[Input] = (), replaced: bool = True
) -> Path:
    """Return the folder ``out`` with links resolved, once it may be a place for outputs.

    Args:
        out: A folder that need not exist.
        option: What names it in messages.
        inputs: What is read; the outputs must not touch it.
        replaced: Whether all that is in the folder goes when the command is done.

    Raises:
        ConfigError: It is a file, or the checkout, the home folder, the current folder or one
            that holds them, or overlaps an input.
    """
    fix = f"give {option.rpartition(' ')[2]} a folder of its own"
    try:
        place = Path(out).resolve()
        if file := _file_in_the_way(place):
            inside = "" if file == place else f": {file} is a file"
            raise ConfigError(f"{option}: {out} is {'no folder' if inside else 'a file'}{inside}",
                              fix=fix)  # fmt: skip
        for what, folder in _protected(place):
            if same(place, folder):
                raise ConfigError(f"{option}: {out} is {what}", fix=fix)
            if holds(place, folder):
                raise ConfigError(f"{option}: {out} holds {what}", fix=fix)
        if ".git" in place.parts:
            raise ConfigError(f"{option}: {out} lies in a folder of git", fix=fix)
        for item in inputs:
            _refuse_overlap(place, out, item, option, fix, replaced)
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a name too long
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{option}: {str(out)!r} cannot be used: {reason}", fix=fix) from None
    return place


def _file_in_the_way(place: Path) -> Path | None:
    """Return the first of a path and its parents that exists, if it is no folder."""
    for step in (place, *place.parents):
        if os.path.lexists(step):
            return None if step.is_dir() else step
    return None


def _protected(place: Path) -> Iterator[tuple[str, Path]]:
    for what, find in (("the home folder", Path.home), ("the current folder", Path.cwd)):
        try:
            yield what, find().resolve()
        except (OSError, RuntimeError):
            continue
    yield "the package of segbench", CHECKOUT / "segbench"
    if is_checkout(CHECKOUT):
        yield "the checkout of segbench", CHECKOUT
    if is_checkout(place) or (place / ".git").exists():
        yield "a checkout", place


def is_checkout(folder: Path) -> bool:
    """Say whether a folder is the top of a checkout of segbench."""
    return (folder / "Snakefile").is_file() and (folder / "workflow" / "rules").is_dir()


def _refuse_overlap(
    place: Path, out: Path, item: Input, option: str, fix: str, replaced: bool
) -> None:
    source = resolved(item)
    if same(place, source):
        raise ConfigError(f"{option}: {out} is the input {item.what}", fix=fix)
    if replaced and holds(place, source):
        raise ConfigError(f"{option}: {out} holds the input {item.what} ({item.path})", fix=fix)
    if not item.may_hold and holds(source, place):
        raise ConfigError(
            f"{option}: {out} lies inside the input {item.what} ({item.path})", fix=fix
        )


def resolved(item: Input) -> Path:
    """Return the path of an input with links resolved.

    Raises:
        ConfigError: Its links lead round in a circle, or its name is none.
    """
    try:
        return Path(item.path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{item.what}: {str(item.path)!r} cannot be read: {reason}", fix="correct the path"
        ) from None


def is_litter(name: str, names: set[str]) -> bool:
    """Whether a file system or a file manager left a file, which holds nothing of the user's.

    macOS keeps its notes on a file beside it: ``._index.html`` for ``index.html``.
    """
    folder, slash, last = name.rpartition("/")
    noted = last.startswith("._") and f"{folder}{slash}{last[2:]}" in names
    return noted or last.startswith(".nfs") or last in _LITTER


def same(a: Path, b: Path) -> bool:
    """Say whether two resolved paths are one place, mounted twice or not."""
    if a == b:
        return True
    try:
        return a.samefile(b)
    except OSError:
        return False


def holds(folder: Path, inner: Path) -> bool:
    """Say whether a resolved path lies below a folder, at any depth."""
    return any(same(folder, step) for step in inner.parents)


def first_folder(relative: Path, bases: Sequence[Path]) -> Path:
    """Return the first of ``base / relative`` that is a folder, else ``relative``."""
    found = (base / relative for base in bases)
    return next((folder for folder in found if folder.is_dir()), relative)
