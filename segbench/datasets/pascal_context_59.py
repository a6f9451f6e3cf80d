"""Pascal Context with 59 classes, background ignored; the facts: ``_pascal_context``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.datasets._pascal_context import describe, find_images
from segbench.datasets.source import SourceImage

INFO = describe(background=False)


def sources(raw: Path | None, options: Mapping[str, Any]) -> Mapping[str, Sequence[SourceImage]]:
    """Return the images of both splits."""
    assert raw is not None
    del options
    return find_images(raw, INFO)
