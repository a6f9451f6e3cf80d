"""The command line, run in this process."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from segbench.cli import main


def command(*arguments: Any) -> int:
    """Run ``segbench`` with these words and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["segbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    return int(stopped.value.code or 0)
