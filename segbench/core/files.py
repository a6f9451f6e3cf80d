"""Files written whole or not at all, and JSON: what is under a final name is complete."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from segbench.core.errors import DataError


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to it.

    ``durable=False`` leaves the syncing to the caller, who writes many files.

    Raises:
        DataError: The folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _write_error(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        if durable:
            _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def atomic_open(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing; the file appears under its name only when complete."""
    with atomic_path(path, durable=durable) as temporary, temporary.open("wb") as stream:
        yield cast(BinaryIO, stream)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _write_error(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write {path}: {error.strerror or error}",
        fix="free disk space or make the folder writable, then run the same command again",
    )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_open(path) as stream:
        stream.write(text.encode("utf-8"))


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON atomically; NaN and infinity are refused (use None for 'no value')."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, default=_plain) + "\n")


def as_read(value: Any) -> Any:
    """Return a JSON value as ``read_json`` gives it back: keys are texts, tuples are lists."""
    return json.loads(json.dumps(value, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    """Turn NumPy scalars, arrays and paths into JSON types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON serialisable")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken file is a ``DataError`` that names it."""
    text = _read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{path} is not valid JSON: nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, or a number of thousands of digits
        raise DataError(f"{path} is not valid JSON: {error}") from error


@contextmanager
def as_written(what: Path | str, *, fix: str = "make it again") -> Iterator[None]:
    """Turn a key that is missing or a value of a wrong kind in a file of ours into one message.

    Only for the few lines that take apart what was read: a mistake in code looks the same.

    Raises:
        DataError: Naming the file.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{what} is not as segbench writes it ({type(error).__name__}: {error})", fix=fix
        ) from error


def _read_text(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line, atomically."""
    lines = [json.dumps(row, allow_nan=False, default=_plain) for row in rows]
    write_text(path, "".join(line + "\n" for line in lines))


def read_jsonl(path: Path) -> list[Any]:
    """Read a JSON-lines file; a broken line is a ``DataError`` with its number."""
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number} is not valid JSON: {error}") from error
    return rows


def iter_jsonl(path: Path) -> Iterator[Any]:
    """Yield the values of a JSON-lines file one at a time, however long it is.

    Raises:
        DataError: The file is missing, or a line is broken (with its number).
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}:{number} is not valid JSON: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def finite_or_none(value: float) -> float | None:
    """Return the value, or None where it is NaN or infinite (JSON has neither)."""
    return float(value) if math.isfinite(value) else None
