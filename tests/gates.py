"""Gates: a process that a test wants to catch stops at one and cannot get past it.

    gate = Gate(tmp_path / "gate", "segbench.training.loop:_advance", calls=12, words=["fcn_tiny"])
    process = subprocess.Popen(command, env=environment(gate))
    pid = gate.arrival(process)     # 12 iterations are done, and the 13th has not begun
    os.kill(pid, signal.SIGKILL)    # however fast or slow the machine is
    gate.open()                     # every process goes on, now and later

A gate works in every Python process below the one that is started, in Snakemake's jobs and in
Slurm's too, and nothing in the package knows of it: ``held/sitecustomize.py`` wraps the function
when its module is imported. A held process goes on when it gets a signal that it handles, and
when the test that made the gate is gone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

HELD = Path(__file__).parent / "held"
VARIABLE = "SEGBENCH_TEST_GATES"
LIMIT_S = 600
"""Seconds after which a wait has failed: far more than anything takes on a busy machine."""


class Gate:
    """Holds processes before a call of one function, until it is opened.

    Args:
        folder: Made here; belongs to this gate.
        function: ``package.module:function`` or ``package.module:Class.method``, as its callers
            find it: by the name in that module. A name that another module has already
            imported from it is not held there.
        calls: Calls that each process makes before it is held, once.
        words: Only processes whose command line has all of these are held.
    """

    def __init__(
        self, folder: Path, function: str, *, calls: int = 0, words: Iterable[str] = ()
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self._seen = folder.resolve(), set[int]()
        self.facts: dict[str, Any] = {
            "function": function, "calls": calls, "words": list(words),
            "folder": str(self.folder), "owner": os.getpid(),
        }  # fmt: skip

    def arrival(self, process: Any = None) -> int:
        """Wait until one more process is held, and return its id.

        Args:
            process: A Popen or multiprocessing process that leads to it: if it ends, the wait
                fails at once.
        """
        wait_until(self._new, f"a process at {self.facts['function']}", process)
        pid = min(self._new())
        self._seen.add(pid)
        return pid

    def open(self) -> None:
        """Let every process pass."""
        (self.folder / "open").touch()

    def hold_here(self) -> None:
        """Hold the function in this process, as in a child that multiprocessing started."""
        spec = importlib.util.spec_from_file_location("held", HELD / "sitecustomize.py")
        assert spec and spec.loader
        held = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(held)
        held.hold(importlib.import_module(self.facts["function"].split(":")[0]), self.facts)

    def _new(self) -> set[int]:
        arrived = {int(p.name.split("-")[1]) for p in self.folder.glob("arrived-*")}
        return arrived - self._seen


def environment(*gates: Gate, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment (this process's, or ``base``) in which processes are held."""
    found = dict(os.environ if base is None else base)
    path = [str(HELD), *filter(None, [found.get("PYTHONPATH")])]
    held = json.dumps([gate.facts for gate in gates])
    return {**found, "PYTHONPATH": os.pathsep.join(path), VARIABLE: held}


def wait_until(condition: Callable[[], object], what: str, process: Any = None) -> None:
    """Wait until ``condition()`` is true; fail when ``process`` has ended without it."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        ended = process is not None and has_ended(process)
        assert not ended or condition(), f"it ended without {what}"
        assert time.monotonic() < end, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.01)


def has_ended(process: Any) -> bool:
    """Say whether a Popen or multiprocessing process has ended."""
    code = process.poll() if hasattr(process, "poll") else process.exitcode
    return code is not None
