"""The report: a folder of static pages that opens from disk, made of ``table.json``.

Pages hold every number as HTML; scripts add sorting, search, charts and the viewer. The
site is built beside ``out`` and then swapped in, so a killed render leaves the old site.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.errors import DataError
from segbench.formats import read_json
from segbench.report_pages import write_pages
from segbench.report_site import Site

SCHEMA = 1
GALLERY_IMAGES = 24


def render_report(
    table_json: Path,
    out: Path,
    *,
    results: Path | None = None,
    gallery_images: int | None = None,
    tolerance: float = 0.0,
) -> Path:
    """Render the report of a table; the same inputs give the same bytes.

    Args:
        table_json: What ``segbench collect`` wrote.
        out: Folder of the site; an older site there is replaced whole.
        results: Folder the table's paths are relative to; None takes the table's folder.
        gallery_images: Images of each run, worst first; None takes what the table says.
        tolerance: Fraction by which two scores may differ and still tie.

    Returns:
        The path of ``index.html``.

    Raises:
        DataError: The table is missing, broken or of another schema.
    """
    table = _read_table(Path(table_json))
    out = Path(out)
    building = out.with_name(f".{out.name}.building")
    _recover(out)
    shutil.rmtree(building, ignore_errors=True)
    stated = int(table.get("gallery_images", GALLERY_IMAGES))
    limit = stated if gallery_images is None else gallery_images
    root = _results_folder(Path(table_json), table, results)
    write_pages(Site(table, root, building, limit, tolerance))
    _swap(building, out)
    return out / "index.html"


def _read_table(path: Path) -> dict[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        found = table.get("schema") if isinstance(table, dict) else type(table).__name__
        raise DataError(
            f"{path}: expected a table of schema {SCHEMA}, found {found}",
            fix="run `segbench collect` with this version of segbench",
        )
    return table


def _results_folder(path: Path, table: Mapping[str, Any], results: Path | None) -> Path:
    if results is not None:
        return Path(results)
    stated = Path(str(table.get("results", "")))
    return path.parent if (path.parent / "data").is_dir() or not stated.is_dir() else stated


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _recover(out: Path) -> None:
    """Put back a site whose swap was cut off between its two renames."""
    if _old(out).exists() and not out.exists():
        _old(out).rename(out)


def _swap(building: Path, out: Path) -> None:
    shutil.rmtree(_old(out), ignore_errors=True)
    if out.exists():
        out.rename(_old(out))
    building.rename(out)
    shutil.rmtree(_old(out), ignore_errors=True)
