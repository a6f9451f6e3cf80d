"""One writer of an output folder at a time: a lock beside it that names its holder.

The lock goes with its process, however that ends. Where the file system has no locks, nobody
waits; every writer then works in a folder of its own all the same.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segbench.core.errors import DataError
from segbench.core.progress import say

POLL_S = 0.1
REMIND_S = 60.0

_held: set[int] = set()


def _close_held() -> None:
    """Give up inherited locks: a forked child must not keep one after its parent."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_held)


def lock_file(folder: Path) -> Path:
    """Return the lock of a folder, a hidden file beside it."""
    return folder.with_name(f".{folder.name}.segbench-lock")


@contextmanager
def sole_writer(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder; wait, with a line a minute, while another process does.

    Yields:
        Whether there is a lock: False on file systems without.

    Raises:
        DataError: The lock cannot be written.
    """
    path = lock_file(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, folder)
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror or error}",
            fix="make the folder it lies in writable, or choose another one",
        ) from error
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink()
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(path: Path, folder: Path) -> int | None:
    """Return the descriptor of the locked file; None where there are no locks."""
    told: float | None = None
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if told is None or time.monotonic() - told > REMIND_S:
                told = time.monotonic()
                say(f"waiting: {folder} is being written by {_holder(path)}")
            time.sleep(POLL_S)
            continue
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            return None
        if _is_still(path, descriptor):
            _held.add(descriptor)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return descriptor
        os.close(descriptor)  # its last holder removed it in the meantime


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
