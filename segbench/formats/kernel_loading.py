"""Whether the compiled loops of ``pixel_kernels`` are used: only where much is to be done.

Starting numba takes 0.5 s of a process, as long as decoding and counting some hundred label
maps without it; compiling, once on a machine, takes 2 s more. Both ways give the same numbers.
"""

from __future__ import annotations

from types import ModuleType

WORTH_PIXELS = 200_000_000
"""Pixels of all maps together from which on starting numba pays: 325 pairs of 640x480."""
loaded: ModuleType | None = None
"""The compiled loops, once this process has loaded them."""


def load_for(pixels: int) -> None:
    """Load the compiled loops if so many pixels are worth it and numba is installed."""
    if pixels >= WORTH_PIXELS:
        load()


def load() -> ModuleType | None:
    """Load the compiled loops; None where numba is missing or told not to compile."""
    global loaded
    try:
        import numba
    except ImportError:
        return None
    if getattr(numba.config, "DISABLE_JIT", 0):
        return None
    from segbench.formats import pixel_kernels as loops

    loaded = loops
    return loops


def kernels() -> ModuleType | None:
    """Return the compiled loops if this process has loaded them."""
    return loaded
