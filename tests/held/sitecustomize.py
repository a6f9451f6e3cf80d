"""The held side of ``tests/gates.py``.

Python imports this file first in every process whose PYTHONPATH leads here. The functions that
the environment variable SEGBENCH_TEST_GATES names then stop where their test wants them.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from importlib.machinery import PathFinder
from pathlib import Path


def pass_gate(gate: dict) -> None:
    """Say that this process has arrived and wait until the gate is open or its test is gone."""
    command = Path("/proc/self/cmdline").read_bytes().decode(errors="replace").split("\0")
    if not all(any(word in part for part in command) for word in gate["words"]):
        return
    folder = Path(gate["folder"])
    if not (folder / "open").exists():
        (folder / f"arrived-{os.getpid()}").touch()
    while folder.exists() and not (folder / "open").exists() and _lives(gate["owner"]):
        time.sleep(0.01)


def hold(module: object, gate: dict) -> None:
    """Let a function of a module wait at the gate after ``calls`` calls, before the next."""
    *parents, name = gate["function"].split(":")[1].split(".")
    place = functools.reduce(getattr, parents, module)
    function, calls = getattr(place, name), 0

    @functools.wraps(function)
    def held(*arguments: object, **keywords: object) -> object:
        nonlocal calls
        calls += 1
        if calls > gate["calls"]:
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


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


if wanted := json.loads(os.environ.get("SEGBENCH_TEST_GATES", "[]")):
    sys.meta_path.insert(0, Finder(wanted))
