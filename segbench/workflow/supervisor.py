"""A command run to its end: signals are handed on and waited for, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from segbench.core import processes
from segbench.core.stopping import SIGNALS, Requests

AT_ONCE_S = 5.0
"""How long a command may take after a second Ctrl-C before it is killed with all it started."""


class Supervisor:
    """Starts a command, hands on the first signal as SIGTERM and a second Ctrl-C as SIGINT."""

    def __init__(self) -> None:
        self.requests = Requests()
        self._process: subprocess.Popen[bytes] | None = None
        self._at_once = False

    def run(self, command: Sequence[str]) -> int:
        """Return the exit code of the command, or 128 and the signal that asked for its end."""
        with self._signals():
            if self.requests.first is None:
                environment = {**os.environ, processes.PARENT: processes.myself()}
                self._process = subprocess.Popen(command, env=environment)
                if self.requests.first is not None:
                    self._send(signal.SIGTERM)
                code = self._process.wait()
                if self.requests.first is None:
                    return code if code >= 0 else 128 - code
        return self.requests.exit_code

    @contextmanager
    def _signals(self) -> Iterator[None]:
        wanted = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self.requests.note(number):
            self._send(signal.SIGTERM)
        elif not self._at_once:
            self._at_once = True
            self._send(signal.SIGINT)
            threading.Thread(target=self._kill_late, daemon=True).start()

    def _send(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _kill_late(self) -> None:
        time.sleep(AT_ONCE_S)
        if self._process is not None and self._process.returncode is None:
            with suppress(psutil.Error):
                processes.kill_below(psutil.Process(self._process.pid))
            with suppress(ProcessLookupError):
                self._process.kill()
