"""Where the report's own templates, styles and scripts are."""

from __future__ import annotations

from pathlib import Path


def report_folder() -> Path:
    """Return the folder of templates and static files: in the wheel or in the checkout."""
    installed = Path(__file__).parents[1] / "_report"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "report"


def report_sources() -> list[Path]:
    """Return every template, style sheet and script, for fingerprints."""
    return sorted(path for path in report_folder().rglob("*") if path.is_file())
