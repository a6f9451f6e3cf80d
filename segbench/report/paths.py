"""Files of a results folder, by the paths a table gives: none is read from outside of it.

A table can come from somebody else. Its paths are names below the results folder, whole folders
and links included; what leads out of it is refused (written so) or left out (a link).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from segbench.core.progress import say


def stays_inside(name: object) -> bool:
    """Say whether a relative path is written so that it stays below the folder it is joined to."""
    if not isinstance(name, str) or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def inside(root: Path, *parts: str) -> Path | None:
    """Return a path below a folder; None where it, or a link on the way, leads out of it."""
    if not all(stays_inside(part) for part in parts):
        return None
    path = root.joinpath(*parts)
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return None
    if resolved.is_relative_to(root.resolve()):
        return path
    say(f"left out: {'/'.join(parts)} is a link that leads out of {root}")
    return None


def inside_file(root: Path, *parts: str) -> Path | None:
    """Return a regular file below a folder; None where there is none."""
    path = inside(root, *parts)
    return path if path is not None and path.is_file() else None
