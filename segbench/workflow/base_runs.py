"""Runs that others start from: found through ``init_from``, trained whether shown or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from segbench.core.errors import ConfigError
from segbench.workflow.cell import Cell
from segbench.workflow.config import RunConfig

Key: TypeAlias = tuple[str, str, int]


def base_key(cell: Cell) -> Key | None:
    """Return the key of the run whose weights a cell starts from; it has the cell's seed."""
    if cell.recipe is None or not cell.is_trained or cell.recipe.base is None:
        return None
    return (*cell.recipe.base, cell.key[2])


def unlisted_bases(
    board: Sequence[tuple[RunConfig, Cell]], make: Callable[[RunConfig, Key], Cell]
) -> tuple[Cell, ...]:
    """Return the runs that cells of the board start from and the configuration does not list.

    Args:
        board: Each cell with the run that lists it.
        make: Gives the cell of a key, of the length that the run has its recipes in.

    Raises:
        ConfigError: Runs start from each other in a circle, a file is not there, or runs of
            different lengths need one that is not listed.
    """
    listed = {cell.key: cell for _, cell in board}
    found: dict[Key, Cell] = {}
    for run, cell in board:
        chain = [cell]
        while (key := base_key(chain[-1])) is not None:
            _refuse_circle(chain, key)
            base = listed.get(key) or _made(make, run, key, chain[-1])
            if key not in listed and found.setdefault(key, base).recipe != base.recipe:
                raise ConfigError(
                    f"{chain[-1].recipe_file}: init_from: {_name(key)} is needed in two lengths, "
                    "as runs with different iterations start from it",
                    fix="list it under the experiments of one run",
                )
            chain.append(base)
        _refuse_absent_file(chain[-1])
    return tuple(found.values())


def _made(
    make: Callable[[RunConfig, Key], Cell], run: RunConfig, key: Key, needed_by: Cell
) -> Cell:
    try:
        return make(run, key)
    except ConfigError as error:
        raise ConfigError(
            f"{needed_by.recipe_file}: init_from: {error.what}", fix=error.fix
        ) from None


def _refuse_circle(chain: Sequence[Cell], key: Key) -> None:
    if key in [cell.key for cell in chain]:
        circle = " -> ".join(_name(k) for k in (*(cell.key for cell in chain), key))
        raise ConfigError(
            f"{chain[-1].recipe_file}: init_from: runs start from each other: {circle}",
            fix="remove init_from from one of them",
        )


def _refuse_absent_file(cell: Cell) -> None:
    file = None if cell.recipe is None else cell.recipe.init_file
    if file is not None and not file.is_file():
        raise ConfigError(f"{cell.recipe_file}: init_from: {file} does not exist")


def _name(key: Key) -> str:
    return "/".join(key[:2])
