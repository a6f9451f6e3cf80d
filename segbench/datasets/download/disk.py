"""Room on the disk: asked before, and named when it runs out."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segbench.core.errors import DataError

SPARE_BYTES = 32 << 20
"""Room that stays free beyond what is needed."""


def check_space(folder: Path, num_bytes: int, *, what: str) -> None:
    """Raise ``DataError`` when the disk of a folder has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if num_bytes + SPARE_BYTES > free:
        raise DataError(
            f"no room to {what}: it needs {readable(num_bytes)} in {folder}, "
            f"{readable(free)} are free",
            fix="free disk space, or choose another folder with --raw; "
            "then run the same command again",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of writing into one that names the file and the repair."""
    try:
        yield
    except OSError as error:
        fix = "make the folder writable"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            fix = f"free disk space ({readable(shutil.disk_usage(path.parent).free)} are free)"
        raise DataError(
            f"cannot write {path}: {error.strerror or error}",
            fix=f"{fix}, then run the same command again; it goes on where it stopped",
        ) from error


def readable(num_bytes: float) -> str:
    """Return a number of bytes in words, as ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
