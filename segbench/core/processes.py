"""Processes of this machine: who started this one, whether it lives, and a whole tree's end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import psutil

PARENT = "SEGBENCH_PARENT"
"""Variable that names the process whose end is the end of this one: host, id, start time."""
PR_SET_PDEATHSIG = 1
POLL_S = 1.0


def myself() -> str:
    """Return the value of ``SEGBENCH_PARENT`` that names this process."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time()}"


def end_with_parent() -> None:
    """Let this process receive SIGTERM when the one that ``SEGBENCH_PARENT`` names is gone.

    A parent that was killed cannot stop what it started. A job on another host is left alone:
    there the cluster ends it.
    """
    host, _, rest = os.environ.get(PARENT, "").partition("|")
    pid, _, started = rest.partition("|")
    if host != socket.gethostname() or not pid.isdigit():
        return
    if _ended_by_kernel(int(pid)):
        return
    watcher = threading.Thread(target=_wait_for, args=(int(pid), started), daemon=True)
    watcher.start()


def _ended_by_kernel(parent: int) -> bool:
    """Ask Linux for the signal, which costs no thread; only a direct parent counts there."""
    if sys.platform != "linux" or os.getppid() != parent:
        return False
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        return False
    return os.getppid() == parent


def _wait_for(pid: int, started: str) -> None:
    while _alive(pid, started):
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _alive(pid: int, started: str) -> bool:
    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return not zombie and str(process.create_time()) == started
    except psutil.Error:
        return False


def kill_below(root: psutil.Process) -> None:
    """Kill everything a process started, directly or not, at once.

    All are frozen before the first is killed, so that none starts another in the meantime.
    """
    frozen: dict[int, psutil.Process] = {}
    while new := [p for p in _below(root) if p.pid not in frozen]:
        for process in new:
            frozen[process.pid] = process
            with suppress(psutil.Error):
                process.suspend()
    for process in frozen.values():
        with suppress(psutil.Error):
            process.kill()


def _below(root: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = root.children(recursive=True)
    except psutil.Error:
        return []
    return found
