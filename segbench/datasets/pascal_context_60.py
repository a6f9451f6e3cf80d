"""Pascal Context with 60 classes, background a class; the facts: ``_pascal_context``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.datasets._pascal_context import describe, find_images
from segbench.datasets.source import SourceImage

INFO = describe(background=True)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of both splits."""
    assert raw is not None
    del options
    return find_images(raw, INFO)
