"""The held side of ``tests/gates.py``.

Python imports this file first in every process whose PYTHONPATH leads here. The functions that
the environment variable SEGBENCH_TEST_GATES names then stop where their test wants them.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path


def pass_gate(gate: dict) -> None:
    """Say that this process has arrived and wait until the gate is open or its test is gone.

    A signal that the process handles lets it go on too: it is the first thing it then sees.
    """
    command = Path("/proc/self/cmdline").read_bytes().decode(errors="replace").split("\0")
    if not all(any(word in part for part in command) for word in gate["words"]):
        return
    folder, owner = Path(gate["folder"]), Path(f"/proc/{gate['owner']}")
    with _signals() as signalled:
        if not (folder / "open").exists():
            (folder / f"arrived-{os.getpid()}").touch()
        while folder.exists() and owner.exists() and not (folder / "open").exists():
            if signalled(0.01):
                break


@contextmanager
def _signals() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits some seconds and says whether a handled signal has come."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.set_wakeup_fd(writer) if is_main else -1
    try:
        yield lambda seconds: bool(select.select([reader], [], [], seconds)[0])
    finally:
        if is_main:
            signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def hold(module: object, gate: dict) -> None:
    """Let a function of a module wait at the gate once: after ``calls`` calls, before the next."""
    *parents, name = gate["function"].split(":")[1].split(".")
    place = functools.reduce(getattr, parents, module)
    function, calls = getattr(place, name), 0

    @functools.wraps(function)
    def held(*arguments: object, **keywords: object) -> object:
        nonlocal calls
        calls += 1
        if calls == gate["calls"] + 1:
            pass_gate(gate)
        return function(*arguments, **keywords)

    setattr(place, name, held)


class Finder:
    """Holds the functions of a module as soon as it has been imported."""

    def __init__(self, gates: list[dict]) -> None:
        self.gates = gates

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        mine = [gate for gate in self.gates if gate["function"].split(":")[0] == name]
        spec = PathFinder.find_spec(name, path, target) if mine else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_hold(module: object) -> None:
            run(module)
            for gate in mine:
                hold(module, gate)

        spec.loader.exec_module = run_and_hold
        return spec


if wanted := json.loads(os.environ.get("SEGBENCH_TEST_GATES", "[]")):
    sys.meta_path.insert(0, Finder(wanted))
