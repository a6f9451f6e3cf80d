"""Errors a user can cause, as one tree; each becomes one clear line and an exit code.

SegbenchError            exit 1   something the user can repair
├── ConfigError          exit 2   a configuration, recipe or command line that cannot be meant
├── DataError            exit 1   a dataset or prediction file that is broken or missing
│   └── ForeignFile      exit 1   a whole file, but of another run, recipe, dataset or split
├── TrainingError        exit 1   training cannot go on (non-finite loss, foreign checkpoint)
│   └── LeaseLost        exit 3   another process owns this training state now
├── LeaseHeld            exit 3   another process writes there; it is named
└── MissingDependency    exit 1   an optional package or a system program is not there
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_REQUEUE = 75
"""Exit code of a trainer that saved its state and asks to be started again (EX_TEMPFAIL)."""


class SegbenchError(Exception):
    """A mistake or fault with a known repair.

    Args:
        what: What is wrong: the file, the offending value, expected and found.
        fix: What to do next, as a sentence or a command.
    """

    exit_code = 1

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  -> {self.fix}" if self.fix else self.what


class ConfigError(SegbenchError):
    """A configuration, recipe or command line that cannot be meant."""

    exit_code = 2


class DataError(SegbenchError):
    """A dataset or prediction file that is broken, missing or inconsistent."""


class ForeignFile(DataError):
    """A file that is whole but belongs to something else than what it is used for."""


class TrainingError(SegbenchError):
    """Training cannot go on."""


class LeaseLost(TrainingError):
    """Another process has taken over this training state."""

    exit_code = 3


class LeaseHeld(SegbenchError):
    """Another process that is alive writes there."""

    exit_code = 3


class MissingDependency(SegbenchError):
    """An optional package, a system program or a network is needed and not there."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
