"""A checkout of a reference on the path of imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def checkout_of(folder: str) -> str:
    """Put a folder first on the path of imports and return the commit that it holds.

    The commit is git's, or the text of a file COMMIT where the folder is an unpacked archive.
    """
    sys.path.insert(0, folder)
    stated = Path(folder) / "COMMIT"
    if stated.is_file():
        return stated.read_text().strip()
    command = ["git", "-C", folder, "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
