"""How a command ends when it is asked to: no half file, and one exit code for each signal.

Ctrl-C, SIGTERM and a closed terminal raise ``KeyboardInterrupt``, so that what is being
written goes through its clean-up. A second Ctrl-C ends at once. A trainer puts its own
handlers in place of these while it can save (``runtime.catch_signals``).
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from segbench.core.processes import PARENT, end_with_parent

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_KEYSTROKE_S = 0.5
"""A Ctrl-C may come twice: from the terminal, and handed on by the process in front."""
CLEANING_S = 5.0
"""After that long a signal interrupts the clean-up too, or what has swallowed the first."""


class Requests:
    """The signals this process has received."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._last = 0.0

    def note(self, number: int) -> bool:
        """Take note of a signal; True when it is a second Ctrl-C: end at once."""
        now = time.monotonic()
        again = self.first is not None and now - self._last >= ONE_KEYSTROKE_S
        if self.first is None:
            self.first, self._last = signal.Signals(number), now
        return again and number == signal.SIGINT

    def seconds(self) -> float:
        """Return the time since the first signal."""
        return time.monotonic() - self._last

    @property
    def exit_code(self) -> int:
        """128 and the number of the first signal, as shells count; 130 where there was none."""
        return 128 + int(self.first or signal.SIGINT)


requests = Requests()


def listen() -> None:
    """Let the signals that ask for the end of a command clean up before it ends.

    A signal that is ignored, as under nohup, stays ignored. A command that a workflow started
    ends with it.
    """
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    os.register_at_fork(after_in_child=_as_before)
    if PARENT in os.environ:
        end_with_parent()


def _interrupt(number: int, _: FrameType | None) -> None:
    first = requests.first is None
    if requests.note(number):
        os._exit(requests.exit_code)
    if first or requests.seconds() > CLEANING_S:
        raise KeyboardInterrupt


def _as_before() -> None:
    """Give a forked child the handlers of a new process: its end is its parent's business."""
    defaults = {signal.SIGINT: signal.default_int_handler}
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, defaults.get(number, signal.SIG_DFL))
