"""Loops compiled by numba on first use and kept on disk.

Modules of compiled loops are imported where they are called, not at the top: numba takes 0.2 s
to start, and the first use on a machine compiles for some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile on first use and keep the code on disk, where a folder for it can be written."""
    try:
        ready: Function = njit(function, cache=True, nogil=True)
    except RuntimeError:  # neither the installation nor the user's cache folder is writable
        ready = njit(function, nogil=True)
    return ready
