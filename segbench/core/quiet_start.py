"""Runs a module as ``python -m`` does; Ctrl-C while it is being imported ends it in silence.

    python -m segbench.core.quiet_start MODULE ARGUMENTS...

Python would show a traceback through somebody else's imports. The module puts its own handlers
in place when it is ready for them.
"""

from __future__ import annotations

import runpy
import signal
import sys


def main() -> None:
    """Run the module named first with the arguments that follow it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
