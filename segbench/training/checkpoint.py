"""Training state on disk: written whole, digested, two kept, read without running code.

    <state>/checkpoint-<iteration>.pt          tensors and plain types, by torch.save
    <state>/checkpoint-<iteration>.pt.sha256   its digest; a file without one is not used

The file appears under its name by a rename after its digest is in place, so a kill at any
instant leaves the previous checkpoint usable and no half file that looks complete.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from segbench.core.errors import DataError, TrainingError
from segbench.core.files import atomic_open, write_text
from segbench.core.progress import say

FORMAT = "segbench-checkpoint-1"
KEEP = 2
_NAME = re.compile(r"checkpoint-(\d+)\.pt")


def save_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    *,
    iteration: int,
    before_commit: Callable[[], None] | None = None,
) -> Path:
    """Write a checkpoint and remove all but the newest two.

    Args:
        folder: The state folder.
        state: Tensors, numbers, strings, lists and dicts.
        iteration: Finished iterations; part of the name.
        before_commit: Called when everything is ready to be written; may raise to stop it.

    Raises:
        DataError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "iteration": iteration, **state}, buffer)
    path = folder / f"checkpoint-{iteration}.pt"
    try:
        # released here: a view that an exception keeps alive crashes the collector of Python 3.12.1
        with buffer.getbuffer() as content, atomic_open(path) as stream:
            stream.write(content)
            stream.flush()
            if before_commit is not None:
                before_commit()
            write_text(_digest_file(path), hashlib.sha256(content).hexdigest() + "\n")
    except DataError as error:
        raise DataError(
            f"{error.what}; the checkpoint of iteration {iteration} needs "
            f"{buffer.tell() / 2**20:.1f} MiB, earlier checkpoints are intact",
            fix=error.fix,
        ) from error
    _sync_folder(folder)
    for old in _checkpoints(folder)[KEEP:]:
        _remove(old)
    return path


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint whose digest holds, None where there is none.

    Broken ones are named in the log and set aside as ``.broken``.

    Raises:
        TrainingError: A file with the right digest is no checkpoint of segbench, or holds
            anything but tensors and plain types. Nothing of it is run.
    """
    for path in _checkpoints(folder):
        problem = _problem(path)
        if problem is None:
            return path, read_checkpoint(path)
        say(f"{path}: {problem}; falling back to the checkpoint before it")
        path.replace(path.with_suffix(".pt.broken"))
    return None


def damaged_checkpoints(folder: Path) -> list[str]:
    """Return the names of the checkpoints that were set aside, for the record of a run."""
    return sorted(path.stem for path in folder.glob("checkpoint-*.pt.broken"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint onto the CPU without running code from it.

    Raises:
        TrainingError: It is foreign, malicious or unreadable.
    """
    fix = f"remove {path} to fall back to an earlier one"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"{path} was refused: it holds more than tensors and plain types ({reason})", fix=fix
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} cannot be read: {error}", fix=fix) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is no checkpoint of segbench ({FORMAT})", fix=fix)
    return cast(dict[str, Any], state)


def clear_checkpoints(folder: Path) -> None:
    """Remove every checkpoint, broken and half-written ones included."""
    for path in folder.glob("checkpoint-*.pt*"):
        path.unlink(missing_ok=True)
    clean_temporaries(folder)


def clean_temporaries(folder: Path) -> None:
    """Remove what killed writers left: temporary files, digests without a checkpoint."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for digest in folder.glob("checkpoint-*.pt.sha256"):
        if not digest.with_suffix("").exists():
            digest.unlink(missing_ok=True)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    found = [(m, path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
    return [path for m, path in sorted(found, key=lambda item: -int(item[0][1]))]


def _problem(path: Path) -> str | None:
    try:
        wanted = _digest_file(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "it has no digest"
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found == wanted:
        return None
    return f"its digest is {found[:12]}..., expected {wanted[:12]}... (damaged)"


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _digest_file(path).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
