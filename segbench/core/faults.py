"""The last place an error comes by: what ends a command becomes one message and an exit code.

Users' mistakes and the faults of a machine (a full disk, a missing permission, too little
memory) never end in a traceback. A defect of segbench itself is named as one, with the places
it came from; ``SEGBENCH_TRACEBACK=1`` prints the whole traceback of any error.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from segbench.core.errors import SegbenchError

EXIT_DEFECT = 70
"""Exit code of an error that segbench does not expect (EX_SOFTWARE)."""
EXIT_PIPE = 141
"""Exit code where the reader of standard output is gone, as of a program that SIGPIPE ends."""
TRACEBACK = "SEGBENCH_TRACEBACK"
FRAMES = 5
"""Places that the line of a defect names, the innermost first."""
OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory",
    "bad_alloc", "bad allocation", "alloc_failed", "failed to map segment", "unable to allocate",
    "mmap failed",
)  # fmt: skip
"""Words of memory that ran out, in lower case, whatever library says them."""
READERS = frozenset(
    {"zlib", "zipfile", "gzip", "lzma", "tarfile", "struct", "json", "yaml", "pickle", "_pickle"}
    | {"safetensors", "safetensors_rust", "msgspec", "binascii", "xml"}
)
"""Packages whose own exceptions say that a file is not what it should be."""
REPAIRS = {
    errno.ENOSPC: "free disk space, then run the same command again",
    errno.EDQUOT: "free disk space of your quota, then run the same command again",
    errno.EFBIG: "free disk space or raise the limit (ulimit -f), then run the same command again",
    errno.EROFS: "name a folder on a file system that can be written",
    errno.EACCES: "change the permissions, or name another place",
    errno.EPERM: "change the permissions, or name another place",
    errno.ENOENT: "check the spelling of the path",
    errno.ENOTDIR: "a part of the path is a file where a folder is needed: name another place",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "name another place, or move away what stands there",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "a symbolic link leads to itself: remove it or name another path",
    errno.EMFILE: "raise the limit of open files (ulimit -n) or use fewer workers",
    errno.ENFILE: "too many files are open on this machine: try again later",
    errno.EAGAIN: "too many processes, or too little memory: use fewer workers",
    errno.ENOMEM: "ask for more memory, or use fewer workers",
}


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def exit_codes(command: Callable[[], Any]) -> None:
    """Run a command and exit: 0, or the code of what ended it after one message about it."""
    sys.exit(outcome(command))


def outcome(command: Callable[[], Any]) -> Any:
    """Run a command and return its exit code, after one message about what ended it."""
    open_streams()
    try:
        code = command() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except SystemExit as stopped:
        return _flushed(stopped)
    except Exception as error:
        return report(error)
    return code


def report(error: Exception) -> int:
    """Print the message of an error to standard error and return its exit code."""
    if isinstance(error, BrokenPipeError):
        _mute(sys.stdout)
        return EXIT_PIPE
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    found = as_fault(error)
    text = f"error: {found or defect(error)}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        _mute(sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # full or closed: it cannot be said twice
        _mute(sys.stdout)
    return found.exit_code if found else EXIT_DEFECT


def as_fault(error: BaseException) -> SegbenchError | None:
    """Return an error as one with a known repair; None for a defect of segbench."""
    if isinstance(error, SegbenchError):
        return error
    if is_memory(error):
        return SegbenchError(
            f"out of memory: {_first_line(error)}",
            fix="ask for more memory (or raise the limit: ulimit -v), or use fewer workers",
        )
    if isinstance(error, OSError):
        return SegbenchError(_where(error), fix=REPAIRS.get(error.errno or 0, ""))
    if isinstance(error, UnicodeError):
        return SegbenchError(
            f"a name or a file is no UTF-8 text: {error}", fix="rename the file, or convert it"
        )
    if isinstance(error, RecursionError):
        return SegbenchError("an input is nested too deeply", fix="give a flatter file")
    if isinstance(error, ImportError):
        return SegbenchError(
            f"cannot import {error.name or 'a package'}: {_first_line(error)}",
            fix="install the packages again; `segbench doctor` says what is missing",
        )
    if isinstance(error, ValueError) and "null byte" in str(error):
        return SegbenchError("a path has a null character in it", fix="remove it from the name")
    if isinstance(error, RuntimeError) and "Symlink loop" in str(error):
        return SegbenchError(_first_line(error), fix=REPAIRS[errno.ELOOP])
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return SegbenchError("a number in an input has thousands of digits", fix="correct the file")
    if type(error).__module__.partition(".")[0] in READERS:
        return SegbenchError(
            f"an input file is damaged: {type(error).__name__}: {_first_line(error)}",
            fix="make or download it again",
        )
    return None


def is_memory(error: BaseException) -> bool:
    """Say whether memory ran out, whatever kind of exception says so."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    kinds = (RuntimeError, ImportError, OSError, SystemError)
    return isinstance(error, kinds) and any(w in str(error).lower() for w in OUT_OF_MEMORY)


def defect(error: BaseException) -> str:
    """Return the message of an error that segbench does not expect: what, where, what to do."""
    frames = traceback.extract_tb(error.__traceback__)[::-1][:FRAMES]
    places = " < ".join(f"{_short(f.filename)}:{f.lineno} {f.name}" for f in frames)
    return (
        f"{type(error).__name__}: {_first_line(error)}\n"
        f"  this is unexpected, a defect of segbench or of a file of yours that it runs: {places}\n"
        f"  -> set {TRACEBACK}=1, run it again, and report what is printed"
    )


def open_streams() -> None:
    """Give closed standard streams to the null device.

    The first file that a program opens would take the place of a closed one, and all that is
    printed would land in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _flushed(stopped: SystemExit) -> Any:
    try:
        sys.stdout.flush()
    except Exception as error:
        return report(error)
    return stopped.code


def _mute(stream: Any) -> None:
    """Send a stream that cannot be written to the null device: Python flushes it at the end."""
    try:
        number = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
        stream.flush()
    except (OSError, ValueError):
        return


def _where(error: OSError) -> str:
    """Return path and reason of an ``OSError``; standard output has no path."""
    reason = error.strerror or _first_line(error)
    names = [os.fsdecode(n) for n in (error.filename, error.filename2) if _is_path(n)]
    if names:
        verb = "cannot write " if error.errno in NO_SPACE else ""
        return f"{verb}{' -> '.join(names)}: {reason}"
    full = error.errno in (*NO_SPACE, errno.EBADF) and not error.filename
    return f"cannot write the output: {reason}" if full else reason


def _is_path(name: Any) -> bool:
    return isinstance(name, str | bytes | os.PathLike)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def _short(name: str) -> str:
    return "/".join(Path(name).parts[-2:])


@cache
def note(text: str) -> None:
    """Write a line of something that is passed over to standard error, once a process."""
    sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()


def extra_folders(variable: str) -> list[Path]:
    """Return the folders that an environment variable names; say which of them are none."""
    found = []
    for name in os.environ.get(variable, "").split(os.pathsep):
        if not name:
            continue
        if Path(name).is_dir():
            found.append(Path(name))
        else:
            what = "is no folder" if Path(name).exists() else "does not exist"
            note(f"{variable}: the folder {name} {what}; it is passed over")
    return found


def place_in(file: Path, error: BaseException) -> str:
    """Return ``file:line: what happened`` of an error that a Python file of the user's raised."""
    if isinstance(error, SyntaxError):
        return f"{file}:{error.lineno or 1}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = {str(file), str(file.absolute())}
    lines = [frame.lineno for frame in frames if frame.filename in own]
    if isinstance(error, OSError) and not lines:  # of the file itself, not of what it opens
        return f"{file}: {error.strerror or error}"
    what, kind = _first_line(error), f"{type(error).__name__}: "
    return f"{file}{f':{lines[-1]}' if lines else ''}: {kind}{what}"
