"""MATLAB files: those up to version 7.2 by scipy, version 7.3 (HDF5) by h5py.

Both libraries raise a different exception for every kind of damage; here each becomes one
``DataError`` that names the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segbench.core.errors import DataError
from segbench.core.types import IntArray

_Value = TypeVar("_Value")


def read_variable(path: Path, name: str) -> NDArray[Any]:
    """Return one variable of a MATLAB file; structs are records of shape [1, N].

    Raises:
        DataError: The file is missing or broken, or lacks the variable.
    """
    from scipy.io import loadmat, whosmat

    found = _guarded(path, lambda: loadmat(path, variable_names=[name]))
    if name not in found:
        held = ", ".join(entry[0] for entry in _guarded(path, lambda: whosmat(path)))
        raise DataError(f"{path}: expected the variable {name}, found {held or 'none'}")
    return np.asarray(found[name])


def read_struct(path: Path, name: str, fields: Sequence[str]) -> list[tuple[NDArray[Any], ...]]:
    """Return the fields of every element of a struct array.

    Raises:
        DataError: The file is missing or broken, or the struct has not these fields.
    """
    value = read_variable(path, name)
    missing = [field for field in fields if field not in (value.dtype.names or ())]
    if missing or not value.size:
        held = ", ".join(value.dtype.names or ()) or "none"
        raise DataError(
            f"{path}: expected {name} to have the fields {', '.join(fields)}, found {held}"
        )
    return [tuple(np.asarray(record[field]) for field in fields) for record in value.ravel()]


def read_strings(path: Path, name: str) -> list[str]:
    """Return a cell array of strings; ``DataError`` when the variable is something else."""
    cells = [np.asarray(cell) for cell in read_variable(path, name).ravel()]
    wrong = [cell for cell in cells if cell.dtype.kind != "U" or cell.size != 1]
    if wrong:
        raise DataError(f"{path}: expected {name} to hold strings, found {wrong[0].dtype}")
    return [str(cell.item()) for cell in cells]


def count_v73(path: Path, name: str, field: str) -> int:
    """Return the number of elements of a struct array in a MATLAB 7.3 file.

    Raises:
        DataError: The file is missing or broken, or lacks the field.
    """

    def count() -> int:
        with _open_v73(path) as stream:
            return int(stream[name][field].size)

    return _guarded(path, count)


def read_v73(path: Path, name: str, field: str, *, index: int) -> NDArray[Any]:
    """Return a field of one element of a struct array in a MATLAB 7.3 file.

    HDF5 keeps the columns of MATLAB as rows, so the array is turned.

    Raises:
        DataError: The file is missing or broken, or lacks the element.
    """

    def element() -> NDArray[Any]:
        with _open_v73(path) as stream:
            references = stream[name][field]
            place = (index, 0) if references.shape[-1] == 1 else (0, index)
            return np.asarray(stream[references[place]]).T

    return _guarded(path, element)


def _open_v73(path: Path) -> Any:
    """Open without a lock: many shared file systems of clusters refuse one."""
    import h5py

    return h5py.File(path, "r", locking=False)


def as_labels(
    path: Path, array: NDArray[Any], *, highest: int, also: int | None = None
) -> IntArray:
    """Return an array of MATLAB as integer labels [H, W].

    Raises:
        DataError: It has another shape, fractions, or a label outside 0 to ``highest`` that is
            not ``also``.
    """
    if array.ndim != 2 or array.dtype.kind not in "uif":
        found = f"{array.ndim} dimensions of {array.dtype}"
        raise DataError(f"{path}: expected a two-dimensional label map, found {found}")
    values = np.unique(array)
    wrong = values[(values < 0) | (values > highest) | (values != np.floor(values))]
    if also is not None:
        wrong = wrong[wrong != also]
    if wrong.size:
        raise DataError(
            f"{path} has the labels [{', '.join(f'{label:g}' for label in wrong[:10])}]; "
            f"expected 0 to {highest}" + (f" and {also}" if also is not None else "")
        )
    return array.astype(np.uint16)


def _guarded(path: Path, read: Callable[[], _Value]) -> _Value:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # no common base: zlib, struct, key, type, value errors, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path} cannot be read as a MATLAB file: {reason}") from error
